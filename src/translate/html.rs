//! Matrix HTML: `org.matrix.custom.html` <-> text with form (Matrix CS API, "m.room.message msgtypes").
//!
//! Reading goes through html5ever's tokenizer, tag by tag, and takes time in proportion to the input. Writing knows a dozen
//! elements and escapes all else, so there is nothing to sanitise in what it makes.

use std::cell::RefCell;

use html5ever::{
    tendril::StrTendril,
    tokenizer::{BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts},
};

use super::{
    markup::{Builder, Dialect, Target},
    rich_text::{LONGEST, Node, RichText, Style},
};

/// Most words in one tag, attributes among them.
const TAG: usize = 1000;

/// Reads HTML. `None` if it is too long, or has too many attributes in one tag to be anybody's message.
pub fn read(html: &str) -> Option<RichText> {
    if html.len() > LONGEST || has_monstrous_tag(html) {
        return None;
    }
    let tokenizer = Tokenizer::new(Sink(RefCell::new(Builder::new(Dialect::Matrix))), TokenizerOpts::default());
    let input = BufferQueue::default();
    input.push_back(StrTendril::from(html));
    // It stops at scripts and the like for others; here nothing of that kind is asked for.
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    Some(tokenizer.sink.0.into_inner().finish())
}

/// The tokenizer compares each attribute of a tag with all before it.
fn has_monstrous_tag(html: &str) -> bool {
    html.split('<').any(|tag| {
        let gaps = |c: char| c.is_ascii_whitespace() || c == '/';
        tag.split_once('>').map_or(tag, |(tag, _)| tag).split(gaps).count() > TAG
            && tag.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
    })
}

struct Sink(RefCell<Builder>);

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut builder = self.0.borrow_mut();
        match token {
            Token::TagToken(tag) if tag.kind == TagKind::StartTag => {
                builder.start(&tag.name, |name| attribute(&tag, name), lead);
            }
            Token::TagToken(tag) => builder.end(&tag.name),
            Token::CharacterTokens(text) => builder.text(&text),
            Token::NullCharacterToken
            | Token::CommentToken(_)
            | Token::DoctypeToken(_)
            | Token::EOFToken
            | Token::ParseError(_) => {}
        }
        TokenSinkResult::Continue
    }
}

fn attribute(tag: &Tag, name: &str) -> Option<String> {
    tag.attrs.iter().find(|attribute| &*attribute.name.local == name).map(|attribute| attribute.value.to_string())
}

/// Where a link of a Matrix client leads. A mention is a link to a person (Matrix spec appendices, "matrix.to navigation" and
/// "Matrix URI scheme").
fn lead(href: &str) -> Target {
    const SCHEMES: [&str; 10] =
        ["https:", "http:", "ftp:", "mailto:", "magnet:", "matrix:", "xmpp:", "tel:", "geo:", "sip:"];
    let person = href.strip_prefix("https://matrix.to/#/").map(|id| id.replace("%40", "@").replace("%3A", ":"));
    let person = person.filter(|id| id.starts_with('@'));
    let person = person.or_else(|| href.strip_prefix("matrix:u/").map(|id| format!("@{id}")));
    if let Some(id) = person {
        return Target::Person(id.split(['?', '/']).next().unwrap_or_default().to_owned());
    }
    let small: String = href.chars().take(8).collect::<String>().to_ascii_lowercase();
    if SCHEMES.iter().any(|scheme| small.starts_with(scheme)) {
        Target::Address(href.to_owned())
    } else {
        Target::Nowhere
    }
}

/// Writes HTML of these elements alone: `p`, `br`, `strong`, `em`, `del`, `u`, `code`, `pre`, `a` with `href`, `blockquote`,
/// `ul`, `ol`, `li`.
pub fn write(rich: &RichText) -> String {
    let mut html = String::new();
    write_all(&rich.nodes, &mut html);
    html
}

fn write_all(nodes: &[Node], html: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => escape(text, html),
            Node::Break => html.push_str("<br>"),
            Node::Code(code) => {
                html.push_str("<code>");
                escape(code, html);
                html.push_str("</code>");
            }
            Node::Styled(style, inner) => {
                let tag = match style {
                    Style::Strong => "strong",
                    Style::Emphasis => "em",
                    Style::Strike => "del",
                    Style::Underline => "u",
                };
                element(tag, inner, html);
            }
            Node::Link { href, label } => {
                html.push_str("<a href=\"");
                escape(href, html);
                html.push_str("\">");
                write_all(label, html);
                html.push_str("</a>");
            }
            Node::Paragraph(inner) | Node::Division(inner) => element("p", inner, html),
            Node::Quote(inner) => element("blockquote", inner, html),
            Node::List { first, items } => {
                html.push_str(match first {
                    None => "<ul>",
                    Some(1) => "<ol>",
                    Some(_) => "<ol start=\"",
                });
                if let Some(first) = first.filter(|first| *first != 1) {
                    html.push_str(&first.to_string());
                    html.push_str("\">");
                }
                for item in items {
                    element("li", item, html);
                }
                html.push_str(if first.is_some() { "</ol>" } else { "</ul>" });
            }
            Node::Preformatted { language, text } => {
                html.push_str("<pre><code");
                if let Some(language) = language {
                    html.push_str(" class=\"language-");
                    escape(language, html);
                    html.push('"');
                }
                html.push('>');
                escape(text, html);
                html.push_str("\n</code></pre>");
            }
        }
    }
}

fn element(tag: &str, inner: &[Node], html: &mut String) {
    html.push('<');
    html.push_str(tag);
    html.push('>');
    write_all(inner, html);
    html.push_str("</");
    html.push_str(tag);
    html.push('>');
}

fn escape(text: &str, html: &mut String) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            c => html.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::translate::styling;

    fn text(html: &str) -> String {
        styling::write(&read(html).unwrap())
    }

    #[test]
    fn what_a_matrix_client_writes_becomes_text() {
        for (html, expected) in [
            ("<p>a</p>\n<p>b<br />c</p>\n", "a\n\nb\nc"),
            ("<h1>Title</h1>\n<p>text</p>", "*Title*\ntext"),
            (
                "<p>To do:</p>\n<ul>\n<li>one</li>\n<li>two\n<ol start=\"9\">\n<li>x</li>\n<li>y</li>\n</ol>\n</li>\n</ul>\n<p>Done</p>",
                "To do:\n- one\n- two\n  9. x\n  10. y\n\nDone",
            ),
            ("<ul><li><p>a</p></li><li>b<ul><li>c</ul></ul>", "- a\n- b\n  - c"),
            ("<blockquote>\n<p>a</p>\n<blockquote>\n<p>b</p>\n</blockquote>\n</blockquote>\n<p>c</p>", "> a\n>> b\nc"),
            ("<blockquote><p>a</p><p>b</p></blockquote>", "> a\n>\n> b"),
            (
                "<pre><code class=\"language-rust\">fn  main() {\n}\n</code></pre>\nafter",
                "```rust\nfn  main() {\n}\n```\nafter",
            ),
            ("a <code>x  &lt; y</code>", "a `x < y`"),
            ("<a href=\"https://a.example/b\">here</a>", "here (https://a.example/b)"),
            ("<b>b</b> <a href=\"https://a.example/\">a.example</a>", "*b* a.example"),
            ("<a href=\"javascript:alert(1)\">here</a>", "here"),
            ("<b>x</b> <a href=\"https://matrix.to/#/@alice:h\">Alice</a>: hi", "*x* Alice: hi"),
            ("<b>x</b> <a href=\"https://matrix.to/#/%40alice%3Ah\"></a>", "*x* @alice:h"),
            ("<a href=\"matrix:u/alice:h?action=chat\"></a> <i>x</i>", "@alice:h _x_"),
            ("<a href=\"https://matrix.to/#/#room:h\">#room:h</a>", "#room:h (https://matrix.to/#/#room:h)"),
            ("so <span data-mx-spoiler=\"the end\">he dies</span>", "so [spoiler: the end] he dies"),
            ("<span data-mx-spoiler>he <b>dies</b></span>", "[spoiler] he *dies*"),
            (
                "<img data-mx-emoticon src=\"mxc://h/a\" alt=\":cat:\" height=\"32\"/> <img src=\"mxc://h/b\">",
                ":cat: [picture]",
            ),
            ("a<hr>b", "a\n---\nb"),
            (
                "<table><thead><tr><th>Name</th><th>Age</th></tr></thead><tbody><tr><td>Ann</td><td>7</td></tr></tbody></table>",
                "*Name* | *Age*\nAnn | 7",
            ),
            (
                "<mx-reply><blockquote><a href=\"x\">In reply to</a> old<p></blockquote></mx-reply>new <b>x</b>",
                "new *x*",
            ),
            ("<script>alert(1)</script>a<!-- b -->", "a"),
            ("x<sup>2</sup> H<sub>2</sub>O", "x^2 H_2O"),
            ("<details><summary>more</summary>text</details>", "more\ntext"),
            ("<font color=\"red\">red</font> <span data-mx-bg-color=\"#fff\">x</span>", "red x"),
            ("<strong><p>a</p><p>b</p></strong>", "*a*\n\n*b*"),
            ("<unknown>a</unknown></b></p> b", "a b"),
            ("a\u{a0}\u{a0}b &amp;amp; &#x1f600;", "a\u{a0}\u{a0}b &amp; 😀"),
        ] {
            assert_eq!(text(html), expected, "{html}");
        }
    }

    /// Every element and attribute that the specification names ("m.room.message msgtypes").
    #[test]
    fn every_element_of_the_specification_keeps_its_words() {
        for tag in [
            "del",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "blockquote",
            "p",
            "a",
            "ul",
            "ol",
            "sup",
            "sub",
            "li",
            "b",
            "i",
            "u",
            "strong",
            "em",
            "s",
            "code",
            "div",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "caption",
            "pre",
            "span",
            "details",
            "summary",
            "font",
            "strike",
        ] {
            let html = format!("<{tag} data-mx-color=\"#000\">word</{tag}>");
            assert!(text(&html).contains("word"), "{html}");
        }
    }

    #[test]
    fn hostile_html_costs_little_and_is_bounded() {
        for (start, pattern) in [
            ("", "<b>"),
            ("", "<blockquote>"),
            ("", "<ul><li>"),
            ("", "<p>"),
            ("", "</p>"),
            ("<b>", "<i>x</i>"),
            ("", "<ol start=4294967295><li>"),
            ("", "<pre>"),
            ("", "<table><tr><td>"),
            ("", "&lt;"),
            ("", "<b a=1><p>x"),
            ("", "<mx-reply>"),
            ("", "<a href=x>"),
            ("<b", " a"),
        ] {
            let html = format!("{start}{}", pattern.repeat((LONGEST - start.len()) / pattern.len()));
            if let Some(rich) = read(&html) {
                assert!(write(&rich).len() < 10 * LONGEST, "{pattern}");
                styling::write(&rich);
            }
        }
        let distinct: String = (0..9000).map(|n| format!(" a{n}")).collect();
        assert_eq!(read(&format!("<b{distinct}>")), None);
        assert_eq!(read(&"a".repeat(LONGEST + 1)), None);
        let deep = format!("{}word{}", "<blockquote>".repeat(2000), "</blockquote>".repeat(2000));
        assert!(text(&deep).ends_with("> word"));
    }

    /// The tags in some HTML that we wrote.
    fn tags(html: &str) -> Vec<&str> {
        html.split('<').skip(1).map(|tag| tag.split_once('>').expect("an end").0).collect()
    }

    proptest! {
        #[test]
        fn only_known_tags_are_written(html in "(<|</|>|&|\"|'|=| |\n|b|i|a href=|script|img src=|p|li|ul|on|pre|code|x:|\\PC){0,60}") {
            let rich = read(&html).unwrap();
            let written = write(&rich);
            for tag in tags(&written) {
                let name = tag.trim_start_matches('/');
                let known = ["p", "br", "strong", "em", "del", "u", "code", "pre", "blockquote", "ul", "ol", "li", "a"];
                prop_assert!(known.contains(&name) || tag.starts_with("a href=\"") || tag.starts_with("code class=\"language-") || tag.starts_with("ol start=\""), "{}", written);
                prop_assert!(!tag.contains("javascript:"));
            }
            styling::write(&rich);
        }

        /// All but quotations of nothing, which are left out.
        #[test]
        fn what_we_write_is_read_again(body in "([*_~`> \n]|[a-z])*") {
            if let Some(rich) = styling::read(&body) {
                let once = write(&read(&write(&rich)).unwrap());
                prop_assert_eq!(write(&read(&once).unwrap()), once);
            }
        }
    }
}
