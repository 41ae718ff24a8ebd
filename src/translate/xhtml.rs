//! XHTML-IM: `<html><body>` beside the plain body <-> text with form (XEP-0071). Read from anyone; written only for clients
//! that know it and nothing newer.
//!
//! What comes in is hostile: of its elements only what [`super::rich_text`] can say is kept, pictures become their words, and a
//! link leads to the web, to mail or to XMPP, and never mentions anybody in Matrix.

use minidom::{Element, Node as Part};
use url::Url;

use super::{
    markup::{Builder, Dialect, Target},
    rich_text::{LONGEST, Node, RichText, Style, is_visible},
    stanza::{Stanza, element, legal, set},
};

/// XEP-0071.
pub const NS: &str = "http://jabber.org/protocol/xhtml-im";
const XHTML: &str = "http://www.w3.org/1999/xhtml";

/// Longest address that goes as a link, in bytes: a long attribute is more than some parsers take. A longer one goes as text.
const LONGEST_ADDRESS: usize = 2048;

/// Takes out the text with form. `None` if there is none, or nothing to see in it.
pub fn from_xmpp(stanza: &mut Stanza) -> Option<RichText> {
    let html = stanza.take("html", NS)?;
    let bodies: Vec<&Element> = html.children().filter(|child| child.is("body", XHTML)).collect();
    let has_language = |body: &&&Element| body.attrs().iter().any(|((_, name), _)| name.as_str() == "lang");
    // As with the plain body: the one without a language, else the first.
    let body = bodies.iter().find(|body| !has_language(body)).or(bodies.first())?;
    let rich = read(body)?;
    is_visible(&rich.nodes).then_some(rich)
}

/// Reads a body. `None` if it is too long.
fn read(body: &Element) -> Option<RichText> {
    let mut builder = Builder::new(Dialect::Xhtml);
    let mut open = vec![(body, body.nodes())];
    let mut length = 0;
    while let Some((parent, parts)) = open.last_mut() {
        match parts.next() {
            Some(Part::Text(text)) => {
                length += text.len();
                builder.text(text);
            }
            Some(Part::Element(child)) => {
                length += child.name().len();
                // What is not XHTML has no place here; of XHTML that we do not know, the words count (section 11.2).
                if child.ns() == XHTML {
                    builder.start(child.name(), |name| child.attr(name).map(str::to_owned), lead);
                    open.push((child, child.nodes()));
                }
            }
            None => {
                builder.end(parent.name());
                open.pop();
            }
        }
        if length > LONGEST {
            return None;
        }
    }
    Some(builder.finish())
}

/// Where a link from XMPP leads. Clients make a mention of a link to matrix.to, of a `matrix:` URI, and of a page of their own
/// whose fragment names a user or a room; a contact must not mention anyone in Matrix so.
fn lead(href: &str) -> Target {
    let Ok(url) = Url::parse(href) else { return Target::Nowhere };
    let names = |fragment: &str| fragment.starts_with('/') && ['@', '!', '#'].iter().any(|c| fragment.contains(*c));
    let fragment = url.fragment().map(|fragment| {
        ["%40", "%21", "%23"]
            .iter()
            .zip(["@", "!", "#"])
            .fold(fragment.to_owned(), |text, (from, to)| text.replace(from, to))
    });
    let at_matrix_to =
        url.host_str().is_some_and(|host| host.trim_end_matches('.').rsplit('.').take(2).eq(["to", "matrix"]));
    match url.scheme() {
        "matrix" => Target::Told(href.to_owned()),
        "http" | "https" if at_matrix_to || fragment.as_deref().is_some_and(names) => Target::Told(href.to_owned()),
        "http" | "https" | "mailto" | "xmpp" => Target::Address(url.to_string()),
        _ => Target::Nowhere,
    }
}

/// The payload that says a text with its form, to stand beside the plain body. `action`: the text of an action, which begins
/// with `/me ` (XEP-0245).
pub fn to_xmpp(rich: &RichText, action: bool) -> Element {
    let mut rich = rich.clone();
    if action {
        rich.put_before("/me ");
    }
    let mut body = Element::bare("body", XHTML);
    write_all(&rich.nodes, &mut body);
    let mut html = element("html", NS);
    html.append_child(body);
    html
}

/// A payload of ours with a quotation before what it says; any other payload stays as it is. `quotation` is lines that begin
/// with "> ".
pub fn with_quotation(payload: &Element, quotation: &str) -> Option<Element> {
    let said = payload.is("html", NS).then(|| payload.get_child("body", XHTML)).flatten()?;
    let mut quote = Element::bare("blockquote", XHTML);
    for (number, line) in quotation.lines().enumerate() {
        if number > 0 {
            quote.append_child(Element::bare("br", XHTML));
        }
        quote.append_text_node(legal(line.strip_prefix("> ").unwrap_or(line)));
    }
    let mut body = Element::bare("body", XHTML);
    body.append_child(quote);
    for node in said.nodes() {
        body.append_node(node.clone());
    }
    let mut html = element("html", NS);
    html.append_child(body);
    Some(html)
}

/// Writes what section 7.8 recommends, and no more.
fn write_all(nodes: &[Node], into: &mut Element) {
    for node in nodes {
        match node {
            Node::Text(text) => {
                into.append_text_node(legal(text));
            }
            Node::Break => {
                into.append_child(Element::bare("br", XHTML));
            }
            Node::Code(code) => {
                let mut span = styled("span", "font-family: monospace");
                span.append_text_node(legal(code));
                into.append_child(span);
            }
            Node::Styled(style, inner) => {
                let mut element = match style {
                    Style::Strong => Element::bare("strong", XHTML),
                    Style::Emphasis => Element::bare("em", XHTML),
                    Style::Strike => styled("span", "text-decoration: line-through"),
                    Style::Underline => styled("span", "text-decoration: underline"),
                };
                write_all(inner, &mut element);
                into.append_child(element);
            }
            Node::Link { href, label } if href.len() > LONGEST_ADDRESS => {
                write_all(label, into);
                into.append_text_node(format!(" ({})", legal(href)));
            }
            Node::Link { href, label } => {
                let mut link = Element::bare("a", XHTML);
                set(&mut link, "href", legal(href));
                write_all(label, &mut link);
                into.append_child(link);
            }
            Node::Paragraph(inner) | Node::Division(inner) => block("p", inner, into),
            Node::Quote(inner) => block("blockquote", inner, into),
            Node::List { first: None, items } => list("ul", items, into),
            Node::List { first: Some(1), items } => list("ol", items, into),
            // Where to begin counting cannot be said.
            Node::List { first: Some(first), items } => {
                for (number, item) in (u64::from(*first)..).zip(items) {
                    let mut paragraph = Element::bare("p", XHTML);
                    paragraph.append_text_node(format!("{number}. "));
                    write_all(item, &mut paragraph);
                    into.append_child(paragraph);
                }
            }
            Node::Preformatted { text, .. } => {
                let mut code = styled("p", "font-family: monospace");
                for (number, line) in text.lines().enumerate() {
                    if number > 0 {
                        code.append_child(Element::bare("br", XHTML));
                    }
                    code.append_text_node(legal(line).replace(' ', "\u{a0}"));
                }
                into.append_child(code);
            }
        }
    }
}

fn block(name: &str, inner: &[Node], into: &mut Element) {
    let mut element = Element::bare(name, XHTML);
    write_all(inner, &mut element);
    into.append_child(element);
}

fn list(name: &str, items: &[Vec<Node>], into: &mut Element) {
    let mut list = Element::bare(name, XHTML);
    for item in items {
        block("li", item, &mut list);
    }
    into.append_child(list);
}

fn styled(name: &str, style: &str) -> Element {
    let mut element = Element::bare(name, XHTML);
    set(&mut element, "style", style);
    element
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::translate::{html, stanza::to_xml};

    fn stanza(inner: &str) -> Stanza {
        Stanza::read(&format!("<message xmlns='jabber:client'>{inner}</message>").parse().unwrap())
    }

    /// The Matrix HTML of what a body holds.
    fn shown(inner: &str) -> String {
        let xml = format!("<html xmlns='{NS}'><body xmlns='{XHTML}'>{inner}</body></html>");
        let html = from_xmpp(&mut stanza(&xml)).map(|rich| html::write(&rich)).unwrap_or_default();
        html.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// XEP-0071 section 9, the examples.
    #[test]
    fn the_examples_of_the_specification() {
        for (xhtml, html) in [
            (
                "<p style='font-size:large'><em>Wow</em>, I&apos;m <span style='color:green'>green</span> with <strong>envy</strong>!</p>",
                "<p><em>Wow</em>, I'm green with <strong>envy</strong>!</p>",
            ),
            (
                "<p>As Emerson said in his essay <cite>Self-Reliance</cite>:</p><blockquote>&quot;A foolish consistency&quot;</blockquote>",
                "<p>As Emerson said in his essay <em>Self-Reliance</em>:</p><blockquote>&quot;A foolish consistency&quot;</blockquote>",
            ),
            (
                "<p>Hey, are you licensed to <a href='http://www.jabber.org/'>Jabber</a>?</p>\
                 <p><img src='http://www.xmpp.org/images/psa-license.jpg' alt='A License to Jabber' height='261' width='537'/></p>",
                "<p>Hey, are you licensed to <a href=\"http://www.jabber.org/\">Jabber</a>?</p><p>A License to Jabber</p>",
            ),
            (
                "<p>Here&apos;s my .plan for today:</p><ol><li>Add the following examples to XEP-0071:<ul><li>ordered and unordered lists</li>\
                 <li>more styles (e.g., indentation)</li></ul></li><li>Kick back and relax</li></ol>",
                "<p>Here's my .plan for today:</p><ol><li>Add the following examples to XEP-0071:<ul><li>ordered and unordered lists</li>\
                 <li>more styles (e.g., indentation)</li></ul></li><li>Kick back and relax</li></ol>",
            ),
            (
                "<p>You wrote:</p><blockquote><p>I think</p><ol><li>Remove &lt;div/&gt;</li></ol><p>Yes, no, maybe?</p></blockquote><p>That seems fine to me.</p>",
                "<p>You wrote:</p><blockquote><p>I think</p><ol><li>Remove &lt;div/&gt;</li></ol><p>Yes, no, maybe?</p></blockquote><p>That seems fine to me.</p>",
            ),
            (
                "<p>The <acronym>XHTML</acronym> requirements</p><ol type='1' start='4'><li><p>If a user agent</p></li></ol>",
                "<p>The XHTML requirements</p><ol start=\"4\"><li><p>If a user agent</p></li></ol>",
            ),
        ] {
            assert_eq!(shown(xhtml), html);
        }
        // Multiple bodies: the first, as with the plain body.
        let two = format!(
            "<html xmlns='{NS}'><body xml:lang='en-US' xmlns='{XHTML}'><p><strong>awesome!</strong></p></body>\
             <body xml:lang='de-DE' xmlns='{XHTML}'><p><strong>ausgezeichnet!</strong></p></body></html>"
        );
        let rich = from_xmpp(&mut stanza(&two)).unwrap();
        assert_eq!(html::write(&rich), "<p><strong>awesome!</strong></p>");
    }

    #[test]
    fn styles_of_old_clients_are_form() {
        for (xhtml, html) in [
            ("<span style='font-weight: bold; color: #ff0000'>a</span>", "<strong>a</strong>"),
            ("<span style='FONT-STYLE:italic'>a</span>", "<em>a</em>"),
            ("<span style='text-decoration: underline'>a</span>", "<u>a</u>"),
            ("<span style='text-decoration: line-through'>a</span>", "<del>a</del>"),
            ("<span style='font-family: monospace'>a</span>", "<code>a</code>"),
            ("<p style='font-weight: bold'>a</p>", "<p><strong>a</strong></p>"),
            ("<strong style='font-weight: bold'>a</strong>", "<strong>a</strong>"),
        ] {
            assert_eq!(shown(xhtml), html, "{xhtml}");
        }
    }

    #[test]
    fn nothing_hostile_passes() {
        for (xhtml, html) in [
            ("<img src='https://spy.example/pixel.gif'/>x", "[picture]x"),
            ("<img src='data:image/png;base64,AAAA' alt='a&lt;b'/>", "a&lt;b"),
            ("<script>alert(1)</script>x", "x"),
            ("<p onclick='alert(1)' class='x' id='y' data-mx-color='#fff'>x</p>", "<p>x</p>"),
            ("<span data-mx-spoiler='a'>x</span>", "x"),
            ("<a href='javascript:alert(1)'>x</a>", "x"),
            ("<a href='data:text/html,x'>x</a>", "x"),
            ("<a href=' JaVaScRiPt:alert(1)'>x</a>", "x"),
            ("<a href='http://x.example/&quot;&gt;&lt;b'>x</a>", "<a href=\"http://x.example/%22%3E%3Cb\">x</a>"),
            ("<a href='mailto:a@b.example'>x</a>", "<a href=\"mailto:a@b.example\">x</a>"),
            ("<a href='xmpp:a@b.example'>x</a>", "<a href=\"xmpp:a@b.example\">x</a>"),
            (
                "<a href='https://evil.example/'>https://bank.example/</a>",
                "https://bank.example/ (<a href=\"https://evil.example/\">https://evil.example/</a>)",
            ),
            ("<x xmlns='urn:other'>hidden</x>y", "y"),
            ("<mx-reply>forged</mx-reply>x", "x"),
            ("<iframe src='https://a.example'/>x", "x"),
        ] {
            assert_eq!(shown(xhtml), html, "{xhtml}");
        }
    }

    #[test]
    fn nobody_in_matrix_is_mentioned_from_xmpp() {
        for href in [
            "https://matrix.to/#/@alice:h",
            "HTTPS://MATRIX.TO/#/%40alice:h",
            "https://matrix.to./#/@alice:h",
            "http://www.matrix.to/#/!room:h",
            "matrix:u/alice:h",
            "https://app.element.io/#/user/@alice:h",
            "https://app.element.io/#/room/%23room:h",
        ] {
            let html = shown(&format!("<p>hi <a href='{href}'>Alice</a></p>"));
            assert_eq!(html, format!("<p>hi Alice (<code>{href}</code>)</p>"));
        }
        let html = shown("<p><a href='https://matrix.to.evil.example/#top'>x</a></p>");
        assert_eq!(html, "<p><a href=\"https://matrix.to.evil.example/#top\">x</a></p>");
    }

    #[test]
    fn what_is_deep_or_long_is_bounded() {
        let deep = format!("{}word{}", "<em>".repeat(60), "</em>".repeat(60));
        let html = shown(&deep);
        assert!(html.contains("word") && html.matches("<em>").count() <= super::super::rich_text::DEPTH, "{html}");
        assert_eq!(shown(&"x".repeat(LONGEST + 1)), "");
        assert_eq!(from_xmpp(&mut stanza(&format!("<html xmlns='{NS}'/>"))), None);
        assert_eq!(shown("<p> </p>"), "");
    }

    fn written(html: &str, action: bool) -> String {
        let xml = to_xml(&to_xmpp(&html::read(html).unwrap(), action)).unwrap();
        xml.replace(&format!("<html xmlns='{NS}'><body xmlns='{XHTML}'>"), "").replace("</body></html>", "")
    }

    #[test]
    fn old_clients_get_what_they_know() {
        for (html, xhtml) in [
            ("<b>a</b> <i>b</i>", "<strong>a</strong> <em>b</em>"),
            ("<code>a b</code>", "<span style='font-family: monospace'>a b</span>"),
            ("<pre>a\n b</pre>", "<p style='font-family: monospace'>a<br/>\u{a0}b</p>"),
            ("<ol start=3><li>a</ol>", "<p>3. a</p>"),
            ("<ul><li>a</ul>", "<ul><li>a</li></ul>"),
            ("<a href='https://a.example'>b</a>", "<a href='https://a.example'>b</a>"),
            ("<blockquote>a</blockquote>b", "<blockquote>a</blockquote>b"),
        ] {
            assert_eq!(written(html, false), xhtml);
        }
        let long = format!("https://a.example/{}", "x".repeat(LONGEST_ADDRESS));
        assert_eq!(written(&format!("<a href='{long}'>b</a>"), false), format!("b ({long})"));
        assert_eq!(written("<b>waves</b>", true), "/me <strong>waves</strong>");
    }

    #[test]
    fn a_quotation_stands_before_the_form_too() {
        let payload = to_xmpp(&html::read("<b>No</b>").unwrap(), false);
        let quoting = to_xml(&with_quotation(&payload, "> Art thou\n> Romeo?\n").unwrap()).unwrap();
        assert!(quoting.contains("<blockquote>Art thou<br/>Romeo?</blockquote><strong>No</strong>"), "{quoting}");
        assert!(with_quotation(&"<reply xmlns='urn:xmpp:reply:0'/>".parse().unwrap(), "> x\n").is_none());
    }

    proptest! {
        #[test]
        fn form_goes_round(words in prop::collection::vec(("[a-z&<>\"' ]{0,8}[a-z]", 0usize..6), 1..8)) {
            let nodes = words.into_iter().map(|(text, kind)| match kind {
                0 => Node::Paragraph(vec![Node::Text(text)]),
                1 => Node::Quote(vec![Node::Text(text)]),
                2 => Node::Paragraph(vec![Node::Styled(Style::Strong, vec![Node::Text(text)])]),
                3 => Node::List { first: Some(1), items: vec![vec![Node::Text(text)]] },
                4 => Node::Paragraph(vec![Node::Styled(Style::Strike, vec![Node::Styled(Style::Emphasis, vec![Node::Text(text)])])]),
                _ => Node::Paragraph(vec![Node::Link { href: "https://a.example/".to_owned(), label: vec![Node::Text(text)] }]),
            }).collect();
            let rich = RichText { nodes, ..RichText::default() };
            let xml = to_xml(&to_xmpp(&rich, false)).unwrap();
            prop_assert_eq!(from_xmpp(&mut stanza(&xml)), Some(rich));
        }
    }
}
