//! Message styling: `*strong*`, `_emphasis_`, `~strike~`, `` `code` ``, fences and quotations <-> text with form (XEP-0393).

use minidom::Element;

use super::{
    layout,
    markup::language,
    rich_text::{DEPTH, LONGEST, Node, RichText, Style},
    stanza::{Stanza, element},
};

/// XEP-0393.
pub const NS: &str = "urn:xmpp:styling:0";

/// What begins and ends a block of code.
pub const FENCE: &str = "```";
/// The directives of spans, and what they stand for; none for code.
pub const DIRECTIVES: [(char, Option<Style>); 4] =
    [('*', Some(Style::Strong)), ('_', Some(Style::Emphasis)), ('~', Some(Style::Strike)), ('`', None)];

/// Takes out what says that nothing in the body is styling (XEP-0393 section 6).
pub fn take_unstyled(stanza: &mut Stanza) -> bool {
    stanza.take("unstyled", NS).is_some()
}

/// The payload that says so.
pub fn unstyled() -> Element {
    element("unstyled", NS)
}

/// Reads a body. `None` if nothing in it is styled, or it is too long to be looked at.
pub fn read(body: &str) -> Option<RichText> {
    if body.len() > LONGEST {
        return None;
    }
    let lines: Vec<&str> = body.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)).collect();
    let nodes = blocks(&lines, 0);
    let styled = nodes.iter().any(|node| !matches!(node, Node::Text(_) | Node::Break));
    styled.then_some(RichText { nodes, ..RichText::default() })
}

/// Writes a text that a client shows with its form, if it knows styling, and that anyone can read.
pub fn write(rich: &RichText) -> String {
    layout::write(&rich.nodes)
}

/// Lines into blocks (section 5.1).
fn blocks(lines: &[&str], depth: usize) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut at = 0;
    let mut after_line = false;
    while at < lines.len() {
        let rest = &lines[at..];
        let is_quote = |line: &&str| line.starts_with('>');
        if let Some(info) = rest[0].strip_prefix(FENCE) {
            let length = rest[1..].iter().position(|line| *line == FENCE).unwrap_or(rest.len() - 1);
            nodes.push(Node::Preformatted { language: language(info.trim()), text: rest[1..=length].join("\n") });
            at += length + 2;
            after_line = false;
        } else if is_quote(&rest[0]) && depth < DEPTH {
            let length = rest.iter().take_while(|line| is_quote(line)).count();
            let quoted: Vec<&str> = rest[..length]
                .iter()
                .map(|line| line.get(1..).unwrap_or_default())
                .map(|line| line.strip_prefix(is_space).unwrap_or(line))
                .collect();
            nodes.push(Node::Quote(blocks(&quoted, depth + 1)));
            at += length;
            after_line = false;
        } else {
            if after_line {
                nodes.push(Node::Break);
            }
            nodes.extend(spaced(spans(rest[0])));
            at += 1;
            after_line = true;
        }
    }
    nodes
}

/// A whitespace character of section 4: `White_Space`, or of category Z, which adds none to it.
pub fn is_space(c: char) -> bool {
    c.is_whitespace()
}

/// A line into spans (section 5.2): from its beginning, each closed as soon as it can be.
fn spans(line: &str) -> Vec<Node> {
    let mut nodes = Vec::new();
    // Bytes up to here are in nodes.
    let mut done = 0;
    let mut before = None;
    // A directive that nothing closes from one place on is closed by nothing from any later place on.
    let mut hopeless = [false; DIRECTIVES.len()];
    let mut chars = line.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let opens = before.is_none_or(is_space);
        before = Some(c);
        let Some(which) = DIRECTIVES.iter().position(|(directive, _)| *directive == c) else { continue };
        let Some(&(_, next)) = chars.peek() else { break };
        if next == c {
            // Nothing between two directives: neither counts.
            if opens {
                chars.next();
            }
            continue;
        }
        if !opens || is_space(next) || hopeless[which] {
            continue;
        }
        let inside = &line[at + 1..];
        let Some(length) = closing(inside, c) else {
            hopeless[which] = true;
            continue;
        };
        let (inside, end) = (&inside[..length], at + 1 + length + 1);
        if done < at {
            nodes.push(Node::Text(line[done..at].to_owned()));
        }
        nodes.push(match DIRECTIVES[which].1 {
            Some(style) => Node::Styled(style, spans(inside)),
            None => Node::Code(inside.to_owned()),
        });
        done = end;
        while chars.next_if(|(place, _)| *place < end).is_some() {}
    }
    if done < line.len() {
        nodes.push(Node::Text(line[done..].to_owned()));
    }
    nodes
}

/// Where a span ends whose directive stands before the text: the first that has no blank before it.
fn closing(text: &str, directive: char) -> Option<usize> {
    let mut before = directive;
    text.char_indices().find_map(|(at, c)| {
        let closes = c == directive && at > 0 && !is_space(before);
        before = c;
        closes.then_some(at)
    })
}

/// Blanks that HTML would take away, as blanks that it leaves: all but the last of several, and those at the beginning.
fn spaced(mut nodes: Vec<Node>) -> Vec<Node> {
    fn keep(nodes: &mut [Node], before: &mut char) {
        for node in nodes {
            match node {
                Node::Text(text) => {
                    *text = text
                        .chars()
                        .map(|c| {
                            let c = if c == ' ' && matches!(*before, '\n' | ' ' | '\u{a0}') { '\u{a0}' } else { c };
                            *before = c;
                            c
                        })
                        .collect();
                }
                Node::Styled(_, inner) => keep(inner, before),
                _ => *before = '`',
            }
        }
    }
    keep(&mut nodes, &mut '\n');
    nodes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::translate::html;

    /// The HTML of a body; the body itself, marked, where nothing is styled.
    fn shown(body: &str) -> String {
        read(body).map_or_else(|| format!("plain {body}"), |rich| html::write(&rich))
    }

    /// What is sent for HTML.
    fn sent(html: &str) -> String {
        write(&html::read(html).unwrap())
    }

    /// XEP-0393 section 5.2, the two lists.
    #[test]
    fn spans_of_the_specification() {
        for (body, html) in [
            ("*strong span*", "<strong>strong span</strong>"),
            ("plain _emphasis_ plain", "plain <em>emphasis</em> plain"),
            ("`pre` plain *strong*", "<code>pre</code> plain <strong>strong</strong>"),
            ("*strong*plain*", "<strong>strong</strong>plain*"),
            ("* plain *strong*", "* plain <strong>strong</strong>"),
            ("Everyone ~dis~likes cake.", "Everyone <del>dis</del>likes cake."),
            ("This is `*monospace*`", "This is <code>*monospace*</code>"),
            ("This is *`monospace and bold`*", "This is <strong><code>monospace and bold</code></strong>"),
            (
                "The full title is _Twelfth Night, or What You Will_ but\n_most_ people shorten it.",
                "The full title is <em>Twelfth Night, or What You Will</em> but<br><em>most</em> people shorten it.",
            ),
        ] {
            assert_eq!(shown(body), html, "{body}");
        }
        for body in
            ["not strong*", "*not strong", "*not \n strong*", "*not *strong", "**", "***", "****", "2*3*4 a_b_c"]
        {
            assert_eq!(read(body), None, "{body}");
        }
    }

    /// XEP-0393 section 5.1, examples 2 to 7.
    #[test]
    fn blocks_of_the_specification() {
        for (body, html) in [
            ("There is no *formatting\nas spans* may not escape blocks.", ""),
            (
                "```ignored\n(println \"Hello, world!\")\n```\n\nThis should show up",
                "<pre><code class=\"language-ignored\">(println &quot;Hello, world!&quot;)\n</code></pre><br>This should show up",
            ),
            (
                "> ```\n> (println \"Hello, world!\")\n\nplaintext!",
                "<blockquote><pre><code>(println &quot;Hello, world!&quot;)\n</code></pre></blockquote><br>plaintext!",
            ),
            (
                "> That that is, is.\n\nSaid the old hermit of Prague.",
                "<blockquote>That that is, is.</blockquote><br>Said the old hermit of Prague.",
            ),
            (
                ">> That that is, is.\n> Said the old hermit of Prague.\n\nWho?",
                "<blockquote><blockquote>That that is, is.</blockquote>Said the old hermit of Prague.</blockquote><br>Who?",
            ),
            ("> a\n>  *b*", "<blockquote>a<br>\u{a0}<strong>b</strong></blockquote>"),
            ("```", "<pre><code>\n</code></pre>"),
        ] {
            let html = if html.is_empty() { format!("plain {body}") } else { html.to_owned() };
            assert_eq!(shown(body), html, "{body}");
        }
    }

    #[test]
    fn blanks_that_html_takes_away_are_kept() {
        assert_eq!(shown("  a   b *c*"), "\u{a0}\u{a0}a \u{a0}\u{a0}b <strong>c</strong>");
        assert_eq!(shown("*a*\n\n\nb"), "<strong>a</strong><br><br><br>b");
    }

    /// What directives cannot say as they are.
    #[test]
    fn spans_are_written_so_that_they_are_read() {
        for (html, text) in [
            ("a<b> bold </b>c", "a *bold* c"),
            ("<b>a<br>b</b>", "*a*\n*b*"),
            ("<i><b>x</b> y</i>", "_*x* y_"),
            ("<b><i>x</i> y</b>", "*_x_ y*"),
            ("<b>a <code>b</code></b>", "*a `b`*"),
            ("<b>a*b</b> c", "a*b c"),
            ("<i>snake_case</i>", "snake_case"),
            ("<code>a`b</code> <b>c</b>", "a`b *c*"),
            ("<del>gone</del> <u>under</u>", "~gone~ under"),
            ("<b> </b><i>a</i>", "_a_"),
        ] {
            assert_eq!(sent(html), text, "{html}");
        }
    }

    /// A literal directive that would be taken for styling is preceded by WORD JOINER; one that would not is left alone.
    #[test]
    fn what_is_not_styled_is_not_taken_for_it() {
        for (html, text) in [
            ("*not* <b>bold</b>", "\u{2060}*not* *bold*"),
            ("*a <b>bold</b>", "\u{2060}*a *bold*"),
            ("2 * 3 * 4 <b>bold</b> *", "2 * 3 * 4 *bold* *"),
            ("<b>a</b><br>&gt; _ &lt;", "*a*\n\u{2060}> _ <"),
            ("<b>a</b><br>```", "*a*\n\u{2060}```"),
            ("<pre>a\n```\nb</pre>", "```\na\n\u{2060}```\nb\n```"),
            ("<i>x *y* z</i> <b>b</b>", "_x \u{2060}*y* z_ *b*"),
        ] {
            assert_eq!(sent(html), text, "{html}");
        }
    }

    #[test]
    fn hostile_bodies_cost_little() {
        for pattern in ["*a ", "> ", ">", "```\n", "_*~`", "*_ ", "`a` ", "* a*"] {
            let body = pattern.repeat(LONGEST / pattern.len());
            let html = read(&body).map(|rich| html::write(&rich)).unwrap_or_default();
            assert!(html.len() < 40 * LONGEST, "{pattern}");
        }
        assert_eq!(read(&"*a* ".repeat(LONGEST)), None);
    }

    proptest! {
        #[test]
        fn any_body_is_read_and_its_words_are_kept(body in "([*_~` >\n]|```|[a-z]|\\PC){0,60}") {
            if let Some(rich) = read(&body) {
                let left: String = body.chars().filter(|c| c.is_alphanumeric()).collect();
                let words = crate::translate::rich_text::words(&rich.nodes);
                let words: String = words.chars().filter(|c| c.is_alphanumeric()).collect();
                // Only the words after a fence may be left out.
                prop_assert!(body.contains(FENCE) || left == words, "{} {}", left, words);
                write(&rich);
            }
        }

        /// Simple messages mean the same after a round through message styling.
        #[test]
        fn html_goes_round(
            words in prop::collection::vec(("[a-zäß]{1,8}( [a-z]{1,5})?", 0usize..6), 1..8),
            quoted in "[a-z]{1,8}", code in "[a-z *_]{0,10}[a-z]",
        ) {
            let tags = ["", "strong", "em", "del", "code", ""];
            let line: Vec<String> = words.iter().map(|(text, tag)| match tags[*tag] {
                "" => text.clone(),
                tag => format!("<{tag}>{text}</{tag}>"),
            }).collect();
            let html = format!(
                "<blockquote>{quoted}</blockquote>{}<pre><code>{code}\n</code></pre><strong>{quoted}</strong>", line.join(" ")
            );
            prop_assert_eq!(shown(&sent(&html)), html);
        }
    }
}
