//! Text with form, as all three ways to write it have it: Matrix HTML ([`super::html`]), message styling
//! ([`super::styling`]) and XHTML-IM ([`super::xhtml`]). What this cannot say crosses in no direction, so nothing has to be
//! filtered out afterwards.

/// Deepest nesting that is kept; what is deeper is kept as text.
pub const DEPTH: usize = 32;

/// Longest text or markup that is read or made, in bytes; an event has at most 64 KiB (Matrix CS API, "Size limits").
pub const LONGEST: usize = 64 * 1024;

/// How a stretch of text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bold.
    Strong,
    /// Italic.
    Emphasis,
    /// Struck out.
    Strike,
    /// Underlined.
    Underline,
}

/// A part of a text. Blank space in [`Node::Text`] is as in HTML: however much, it is one blank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Words.
    Text(String),
    /// A new line.
    Break,
    /// Code in a line.
    Code(String),
    /// What stands out.
    Styled(Style, Vec<Node>),
    /// A link.
    Link {
        /// Where to.
        href: String,
        /// What it says.
        label: Vec<Node>,
    },
    /// A paragraph.
    Paragraph(Vec<Node>),
    /// Something on lines of its own, without space around it.
    Division(Vec<Node>),
    /// A quotation.
    Quote(Vec<Node>),
    /// A list.
    List {
        /// The first number, where it is numbered.
        first: Option<u32>,
        /// Its items.
        items: Vec<Vec<Node>>,
    },
    /// A block of code, whose blank space counts.
    Preformatted {
        /// Which language it is in.
        language: Option<String>,
        /// The code.
        text: String,
    },
}

/// A text with form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RichText {
    /// Its parts.
    pub nodes: Vec<Node>,
    /// Something in it is said in words of ours: a spoiler, a picture, a row of a table.
    pub reworded: bool,
    /// The MXIDs of those whom it mentions by a name.
    pub people: Vec<String>,
}

impl RichText {
    /// Has it no form beyond lines, paragraphs and addresses that show themselves?
    pub fn is_plain(&self) -> bool {
        fn plain(nodes: &[Node]) -> bool {
            nodes.iter().all(|node| match node {
                Node::Text(_) | Node::Break => true,
                Node::Paragraph(inner) | Node::Division(inner) => plain(inner),
                Node::Link { href, label } => plain(label) && shows_itself(href, label),
                _ => false,
            })
        }
        !self.reworded && plain(&self.nodes)
    }

    /// Puts words before all others. Where these are in a block of their own, the words get their own line.
    pub fn put_before(&mut self, words: &str) {
        match self.nodes.first_mut() {
            Some(Node::Paragraph(inner) | Node::Division(inner)) => inner.insert(0, Node::Text(words.to_owned())),
            Some(Node::Quote(_) | Node::List { .. } | Node::Preformatted { .. }) => {
                self.nodes.insert(0, Node::Division(vec![Node::Text(words.to_owned())]));
            }
            _ => self.nodes.insert(0, Node::Text(words.to_owned())),
        }
    }

    /// Takes these words from its beginning, whatever they stand in. False if it begins otherwise.
    pub fn take_from_start(&mut self, words: &str) -> bool {
        let mut nodes = &mut self.nodes;
        loop {
            // What is only blank space between tags is no beginning.
            while matches!(nodes.first(), Some(Node::Text(text)) if text.trim().is_empty()) {
                nodes.remove(0);
            }
            match nodes.first_mut() {
                Some(Node::Text(text)) => {
                    let Some(rest) = text.trim_start().strip_prefix(words) else { return false };
                    *text = rest.to_owned();
                    return true;
                }
                Some(
                    Node::Paragraph(inner)
                    | Node::Division(inner)
                    | Node::Styled(_, inner)
                    | Node::Link { label: inner, .. },
                ) => nodes = inner,
                _ => return false,
            }
        }
    }
}

/// The words of some nodes, without form, blank space as it came.
pub fn words(nodes: &[Node]) -> String {
    fn gather(nodes: &[Node], words: &mut String) {
        for node in nodes {
            match node {
                Node::Text(text) | Node::Code(text) | Node::Preformatted { text, .. } => words.push_str(text),
                Node::Break => words.push('\n'),
                Node::Styled(_, inner)
                | Node::Link { label: inner, .. }
                | Node::Paragraph(inner)
                | Node::Division(inner)
                | Node::Quote(inner) => gather(inner, words),
                Node::List { items, .. } => items.iter().for_each(|item| gather(item, words)),
            }
        }
    }
    let mut all = String::new();
    gather(nodes, &mut all);
    all
}

/// Is there anything to see? A new line counts.
pub fn is_visible(nodes: &[Node]) -> bool {
    nodes.iter().any(|node| match node {
        Node::Text(text) => !text.trim_matches([' ', '\t', '\n', '\r', '\u{c}']).is_empty(),
        Node::Styled(_, inner) => is_visible(inner),
        _ => true,
    })
}

/// Does a link look as if it led somewhere else than it does (XEP-0071 section 11.2, "Phishing")?
pub fn misleads(href: &str, label: &[Node]) -> bool {
    let words = words(label);
    let words = words.trim();
    let has_host = words.split_once('.').is_some_and(|(before, after)| {
        before.chars().all(|c| c.is_alphanumeric() || c == '-') && after.starts_with(char::is_alphanumeric)
    });
    (words.contains("://") || has_host && !words.contains(char::is_whitespace)) && !shows_itself(href, label)
}

/// Does a link say where it leads, so that the address need not be told beside it?
pub fn shows_itself(href: &str, label: &[Node]) -> bool {
    let bare = |text: &str| {
        let text = text.trim();
        let text = ["https://", "http://", "mailto:", "xmpp:", "tel:"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .unwrap_or(text);
        text.trim_end_matches('/').to_owned()
    };
    bare(href) == bare(&words(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Node {
        Node::Text(text.to_owned())
    }

    #[test]
    fn plain_is_what_the_words_alone_say() {
        let rich = |nodes| RichText { nodes, ..RichText::default() };
        let link = |label: &str| Node::Link { href: "https://a.example/".to_owned(), label: vec![text(label)] };
        assert!(rich(vec![Node::Paragraph(vec![text("a"), Node::Break, link("a.example")])]).is_plain());
        assert!(!rich(vec![link("here")]).is_plain());
        assert!(!rich(vec![Node::Styled(Style::Strong, vec![text("a")])]).is_plain());
        assert!(!RichText { reworded: true, ..rich(vec![text("a")]) }.is_plain());
    }

    #[test]
    fn a_link_that_looks_like_another_is_known() {
        for (label, misled) in [
            ("https://bank.example/", true),
            ("bank.example", true),
            ("www.bank.example/login", true),
            ("a.example", false),
            ("here", false),
            ("see e.g. this", false),
        ] {
            assert_eq!(misleads("https://a.example/", &[text(label)]), misled, "{label}");
        }
    }

    #[test]
    fn words_are_put_before_and_taken_from_the_start() {
        let mut rich = RichText { nodes: vec![Node::Paragraph(vec![text("a")])], ..RichText::default() };
        rich.put_before("* ");
        assert_eq!(words(&rich.nodes), "* a");
        assert!(rich.take_from_start("* ") && !rich.take_from_start("* "));
        assert_eq!(words(&rich.nodes), "a");
        let mut quote = RichText { nodes: vec![Node::Quote(vec![text("a")])], ..RichText::default() };
        quote.put_before("* ");
        assert_eq!(quote.nodes[0], Node::Division(vec![text("* ")]));
    }
}
