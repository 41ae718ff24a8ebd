//! Tags to text with form, for Matrix HTML and XHTML-IM alike: what each element means, and what an end tag that is missing
//! or too many does. A tree of a browser's kind is not built: html5ever's costs memory and time in the square of the input, and
//! its nesting has no bound.

use super::rich_text::{DEPTH, Node, RichText, Style, is_visible, misleads, words};

/// Longest name of a language, in characters.
const LANGUAGE: usize = 32;

/// What the two kinds of markup do differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `org.matrix.custom.html`: spoilers, mentions, quotations of replies.
    Matrix,
    /// XEP-0071: `style` attributes; links lead to few places.
    Xhtml,
}

/// Where a link leads.
#[derive(Debug, PartialEq, Eq)]
pub enum Target {
    /// There.
    Address(String),
    /// To a person: the words are the name.
    Person(String),
    /// There, but it must not be a link: it is told.
    Told(String),
    /// Nowhere that we would send anyone.
    Nowhere,
}

#[derive(Debug)]
enum What {
    Transparent,
    Dropped,
    Code,
    Preformatted(Option<String>),
    Link(Target),
    Paragraph,
    Division,
    Quote,
    List(Option<u32>),
    Item,
    Row,
}

#[derive(Debug)]
struct Frame {
    name: String,
    what: What,
    styles: Vec<Style>,
    children: Vec<Node>,
}

/// Takes tags and text in order, and gives the text with form.
#[derive(Debug)]
pub struct Builder {
    dialect: Dialect,
    stack: Vec<Frame>,
    root: Vec<Node>,
    /// Elements that are open and not kept: too deep, or inside of code.
    skipped: u32,
    reworded: bool,
    people: Vec<String>,
}

impl Builder {
    /// With nothing in it.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, stack: Vec::new(), root: Vec::new(), skipped: 0, reworded: false, people: Vec::new() }
    }

    /// A start tag, its name in small letters. `lead` says where an `href` leads.
    pub fn start(&mut self, name: &str, attribute: impl Fn(&str) -> Option<String>, lead: impl Fn(&str) -> Target) {
        if self.is_in(|what| matches!(what, What::Dropped)) {
            return;
        }
        if name == "br" {
            return self.line_break();
        }
        if self.is_in(|what| matches!(what, What::Code | What::Preformatted(_))) {
            if let Some(Frame { what: What::Preformatted(language), .. }) = self.stack.last_mut()
                && name == "code"
            {
                *language = attribute("class").as_deref().and_then(language_of);
            }
            self.skipped += u32::from(!is_void(name));
            return;
        }
        let mut styles = match self.dialect {
            Dialect::Matrix => Vec::new(),
            Dialect::Xhtml => attribute("style").as_deref().map(styles_of).unwrap_or_default(),
        };
        let what = match name {
            "b" | "strong" | "th" => with(&mut styles, Style::Strong),
            "i" | "em" | "cite" | "dfn" | "var" => with(&mut styles, Style::Emphasis),
            "s" | "del" | "strike" => with(&mut styles, Style::Strike),
            "u" | "ins" => with(&mut styles, Style::Underline),
            "code" | "tt" | "kbd" | "samp" => What::Code,
            "span" if self.dialect == Dialect::Xhtml && is_monospace(attribute("style").as_deref()) => What::Code,
            "span" => {
                if let Some(reason) = attribute("data-mx-spoiler").filter(|_| self.dialect == Dialect::Matrix) {
                    self.reword(&spoiler(&reason));
                }
                What::Transparent
            }
            "pre" => What::Preformatted(None),
            "a" => match attribute("href") {
                Some(href) => What::Link(lead(href.trim())),
                None => What::Transparent,
            },
            "p" => What::Paragraph,
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                styles.push(Style::Strong);
                What::Division
            }
            "div" | "table" | "caption" | "details" | "summary" | "section" | "article" | "header" | "footer"
            | "address" | "center" | "dl" | "dt" | "dd" | "figure" | "figcaption" => What::Division,
            "blockquote" => What::Quote,
            "ul" => What::List(None),
            "ol" => What::List(Some(attribute("start").and_then(|start| start.trim().parse().ok()).unwrap_or(1))),
            "li" => What::Item,
            "tr" => What::Row,
            "td" => What::Transparent,
            "hr" => {
                self.end_where(&["p"], &["td", "th"]);
                self.reworded = true;
                return self.push(Node::Division(vec![Node::Text("---".to_owned())]));
            }
            "img" => {
                let told =
                    [attribute("alt"), attribute("title")].into_iter().flatten().find(|alt| !alt.trim().is_empty());
                return self.reword(told.as_deref().unwrap_or("[picture]"));
            }
            "sup" | "sub" if self.dialect == Dialect::Matrix => {
                self.reword(if name == "sup" { "^" } else { "_" });
                What::Transparent
            }
            "mx-reply" | "script" | "style" | "head" | "title" | "template" | "iframe" | "object" | "noscript" => {
                What::Dropped
            }
            name if is_void(name) => return,
            _ => What::Transparent,
        };
        // What HTML lets end by itself.
        match name {
            "li" => self.end_where(&["li"], &["ul", "ol"]),
            "tr" => self.end_where(&["tr"], &["table"]),
            "td" | "th" => {
                self.end_where(&["td", "th"], &["tr", "table"]);
                if self.stack.last().is_some_and(|frame| is_visible(&frame.children)) {
                    self.reword(" | ");
                }
            }
            _ if !matches!(what, What::Transparent | What::Dropped | What::Code | What::Link(_)) => {
                self.end_where(&["p"], &["td", "th"]);
            }
            _ => {}
        }
        if self.stack.len() >= DEPTH {
            self.skipped += 1;
            return;
        }
        self.stack.push(Frame { name: name.to_owned(), what, styles, children: Vec::new() });
    }

    /// An end tag.
    pub fn end(&mut self, name: &str) {
        if is_void(name) {
            return;
        }
        let in_raw = self.is_in(|what| matches!(what, What::Code | What::Preformatted(_) | What::Dropped));
        if in_raw && self.stack.last().is_some_and(|frame| frame.name == name) {
            self.skipped = 0;
        } else if self.skipped > 0 {
            self.skipped -= 1;
            return;
        } else if self.is_in(|what| matches!(what, What::Dropped)) {
            return;
        }
        if let Some(at) = self.stack.iter().rposition(|frame| frame.name == name) {
            self.close_to(at);
        }
    }

    /// Text, its references resolved.
    pub fn text(&mut self, text: &str) {
        if self.is_in(|what| matches!(what, What::Dropped)) {
            return;
        }
        let children = self.children();
        match children.last_mut() {
            Some(Node::Text(before)) => before.push_str(text),
            _ => children.push(Node::Text(text.to_owned())),
        }
    }

    /// Everything is said.
    pub fn finish(mut self) -> RichText {
        self.close_to(0);
        RichText { nodes: self.root, reworded: self.reworded, people: self.people }
    }

    fn children(&mut self) -> &mut Vec<Node> {
        self.stack.last_mut().map_or(&mut self.root, |frame| &mut frame.children)
    }

    fn push(&mut self, node: Node) {
        match node {
            Node::Text(text) => self.text(&text),
            node => self.children().push(node),
        }
    }

    fn push_all(&mut self, nodes: Vec<Node>) {
        for node in nodes {
            self.push(node);
        }
    }

    fn reword(&mut self, text: &str) {
        self.reworded = true;
        self.text(text);
    }

    fn line_break(&mut self) {
        if self.is_in(|what| matches!(what, What::Code | What::Preformatted(_))) {
            self.text("\n");
        } else {
            self.children().push(Node::Break);
        }
    }

    fn is_in(&self, wanted: impl Fn(&What) -> bool) -> bool {
        self.stack.last().is_some_and(|frame| wanted(&frame.what))
    }

    /// Ends the innermost of the elements `ends`, if it is not outside of one of `within`.
    fn end_where(&mut self, ends: &[&str], within: &[&str]) {
        let found = self.stack.iter().rposition(|frame| {
            let name = frame.name.as_str();
            ends.contains(&name) || within.contains(&name)
        });
        if let Some(at) = found.filter(|at| ends.contains(&self.stack[*at].name.as_str())) {
            self.close_to(at);
        }
    }

    fn close_to(&mut self, depth: usize) {
        while self.stack.len() > depth {
            let Some(Frame { what, styles, mut children, .. }) = self.stack.pop() else { return };
            let is_block = matches!(what, What::Paragraph | What::Division | What::Quote | What::Row);
            if !is_visible(&children) && is_block {
                continue;
            }
            if is_visible(&children) && !matches!(what, What::Code | What::Preformatted(_)) {
                for style in styles.iter().rev() {
                    children = vec![Node::Styled(*style, children)];
                }
            }
            let node = match what {
                What::Dropped => continue,
                What::Transparent => {
                    self.push_all(children);
                    continue;
                }
                What::Code => match words(&children).split_whitespace().collect::<Vec<_>>().join(" ") {
                    code if code.is_empty() => continue,
                    code => styles.iter().rev().fold(Node::Code(code), |node, style| Node::Styled(*style, vec![node])),
                },
                What::Preformatted(language) => {
                    let text = words(&children);
                    let text = text.strip_prefix('\n').unwrap_or(&text);
                    Node::Preformatted { language, text: text.strip_suffix('\n').unwrap_or(text).to_owned() }
                }
                What::Link(target) => {
                    self.push_link(target, children);
                    continue;
                }
                What::Paragraph => Node::Paragraph(children),
                What::Division | What::Item | What::Row => Node::Division(children),
                What::Quote => Node::Quote(children),
                What::List(first) => match items(children) {
                    items if items.is_empty() => continue,
                    items => Node::List { first, items },
                },
            };
            self.push(node);
        }
    }

    fn push_link(&mut self, target: Target, label: Vec<Node>) {
        let said = is_visible(&label);
        match target {
            Target::Address(href) if !said => self.text(&href),
            Target::Address(href) if self.dialect == Dialect::Xhtml && misleads(&href, &label) => {
                self.push_all(label);
                self.reword(" (");
                self.push(Node::Link { label: vec![Node::Text(href.clone())], href });
                self.text(")");
            }
            Target::Address(href) => self.push(Node::Link { href, label }),
            Target::Person(id) if !said => self.text(&id),
            Target::Person(id) => {
                self.people.push(id);
                self.push_all(label);
            }
            Target::Told(href) => {
                self.push_all(label);
                self.reword(" (");
                self.push(Node::Code(href));
                self.text(")");
            }
            Target::Nowhere => self.push_all(label),
        }
    }
}

/// What a spoiler begins with where it cannot be hidden.
fn spoiler(reason: &str) -> String {
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    if reason.is_empty() { "[spoiler] ".to_owned() } else { format!("[spoiler: {reason}] ") }
}

fn with(styles: &mut Vec<Style>, style: Style) -> What {
    if !styles.contains(&style) {
        styles.push(style);
    }
    What::Transparent
}

/// The items of a list, out of what was found in it.
fn items(children: Vec<Node>) -> Vec<Vec<Node>> {
    let mut items: Vec<Vec<Node>> = Vec::new();
    for child in children {
        match (child, items.last_mut()) {
            (Node::Division(item), _) => items.push(item),
            // A list in a list, outside of its items, belongs to the one before.
            (inner @ Node::List { .. }, Some(before)) => before.push(inner),
            (child, _) if is_visible(std::slice::from_ref(&child)) => items.push(vec![child]),
            _ => {}
        }
    }
    items
}

/// Elements that have no end tag.
fn is_void(name: &str) -> bool {
    matches!(
        name,
        "br" | "hr"
            | "img"
            | "input"
            | "meta"
            | "link"
            | "area"
            | "base"
            | "col"
            | "embed"
            | "source"
            | "track"
            | "wbr"
    )
}

/// The language of code, of a class such as `language-rust`.
fn language_of(class: &str) -> Option<String> {
    class.split_whitespace().find_map(|class| class.strip_prefix("language-")).and_then(language)
}

/// A word that can name a language; it goes into markup as it is.
pub fn language(word: &str) -> Option<String> {
    let fits = !word.is_empty()
        && word.len() <= LANGUAGE
        && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '#' | '.' | '_'));
    fits.then(|| word.to_owned())
}

/// What a `style` attribute says that there is a form for (XEP-0071 section 7.4; CSS1).
fn styles_of(style: &str) -> Vec<Style> {
    let mut styles = Vec::new();
    for (property, value) in declarations(style) {
        let style = match (property.as_str(), value.as_str()) {
            ("font-weight", "bold" | "bolder" | "600" | "700" | "800" | "900") => Style::Strong,
            ("font-style", "italic" | "oblique") => Style::Emphasis,
            ("text-decoration", value) if value.contains("line-through") => Style::Strike,
            ("text-decoration", value) if value.contains("underline") => Style::Underline,
            _ => continue,
        };
        with(&mut styles, style);
    }
    styles
}

fn is_monospace(style: Option<&str>) -> bool {
    let families = |(property, value): (String, String)| property == "font-family" && value.contains("monospace");
    style.is_some_and(|style| declarations(style).any(families))
}

fn declarations(style: &str) -> impl Iterator<Item = (String, String)> + '_ {
    style.split(';').filter_map(|declaration| {
        let (property, value) = declaration.split_once(':')?;
        Some((property.trim().to_ascii_lowercase(), value.trim().to_ascii_lowercase()))
    })
}
