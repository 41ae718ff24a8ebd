//! Text with form, as lines: how lists, quotations, paragraphs and spans look in message styling ([`super::styling`]), which
//! is also how they look to someone whose client knows nothing of it.

use super::{
    rich_text::{Node, Style, shows_itself},
    styling::{DIRECTIVES, FENCE, is_space},
};

/// Stands before what would be taken for a directive, and is not: WORD JOINER, which has no width (XEP-0393 section 7 leaves
/// the choice).
const LITERAL: char = '\u{2060}';

/// The text of nodes.
pub fn write(nodes: &[Node]) -> String {
    let lines = lines(nodes, 0);
    lines.join("\n").trim_matches('\n').to_owned()
}

/// Kinds of blocks, as far as the space between them goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Paragraph,
    Division,
    Quote,
    List,
    Code,
}

/// A stretch of a line in one form.
#[derive(Clone, Debug)]
struct Run {
    text: String,
    /// The places of its directives in [`DIRECTIVES`], as bits.
    styles: u8,
}

/// The bit of code.
const CODE: u8 = 1 << 3;

#[derive(Default)]
struct Layout {
    done: Vec<String>,
    line: Vec<Run>,
    last: Option<Block>,
    /// What comes next continues the text before it.
    flowing: bool,
}

fn lines(nodes: &[Node], styles: u8) -> Vec<String> {
    let mut layout = Layout::default();
    layout.flow(nodes, styles);
    layout.end_text();
    layout.done
}

impl Layout {
    fn flow(&mut self, nodes: &[Node], styles: u8) {
        for node in nodes {
            match node {
                Node::Text(text) => self.text(text, styles),
                Node::Break => {
                    self.begin_text();
                    self.end_line();
                }
                Node::Code(code) => {
                    self.begin_text();
                    // A span of code cannot hold its own directive.
                    let code_style = if code.contains('`') { 0 } else { CODE };
                    self.line.push(Run { text: code.clone(), styles: styles | code_style });
                }
                Node::Styled(style, inner) => self.flow(inner, styles | bit(*style)),
                Node::Link { href, label } => {
                    self.flow(label, styles);
                    if !shows_itself(href, label) {
                        self.text(&format!(" ({href})"), styles);
                    }
                }
                Node::Paragraph(inner) => self.inner(Block::Paragraph, inner, styles),
                Node::Division(inner) => self.inner(Block::Division, inner, styles),
                Node::Quote(inner) => {
                    let mut quoted = lines(inner, styles);
                    while quoted.last().is_some_and(String::is_empty) {
                        quoted.pop();
                    }
                    let prefixed = quoted.iter().map(|line| match line.as_str() {
                        "" => ">".to_owned(),
                        line if line.starts_with('>') => format!(">{line}"),
                        line => format!("> {line}"),
                    });
                    self.block(Block::Quote, prefixed.collect());
                }
                Node::List { first, items } => self.block(Block::List, list(*first, items, styles)),
                Node::Preformatted { language, text } => {
                    let mut code = vec![format!("{FENCE}{}", language.as_deref().unwrap_or_default())];
                    code.extend(text.split('\n').map(|line| match line.trim_end_matches('\r') {
                        FENCE => format!("{LITERAL}{FENCE}"),
                        line => line.to_owned(),
                    }));
                    code.push(FENCE.to_owned());
                    self.block(Block::Code, code);
                }
            }
        }
    }

    /// A block of spans, which may hold other blocks in disorder.
    fn inner(&mut self, kind: Block, nodes: &[Node], styles: u8) {
        let lines = lines(nodes, styles);
        self.block(kind, lines);
    }

    fn block(&mut self, kind: Block, lines: Vec<String>) {
        self.end_text();
        if lines.is_empty() {
            return;
        }
        self.space_before(kind);
        self.done.extend(lines);
        self.last = Some(kind);
    }

    fn space_before(&mut self, kind: Block) {
        let is_text = matches!(kind, Block::Text | Block::Paragraph);
        let apart = match self.last {
            None | Some(Block::Division | Block::Code) => false,
            Some(Block::Text) => kind == Block::Paragraph,
            Some(Block::Paragraph) => is_text,
            Some(Block::List) => is_text || kind == Block::List,
            Some(Block::Quote) => kind == Block::Quote,
        };
        if apart {
            self.done.push(String::new());
        }
    }

    fn begin_text(&mut self) {
        if !self.flowing {
            self.space_before(Block::Text);
            (self.flowing, self.last) = (true, Some(Block::Text));
        }
    }

    fn end_text(&mut self) {
        // As in HTML, a line break at the end of a block begins no line.
        if self.line.iter().any(|run| !run.text.trim().is_empty()) {
            self.end_line();
        }
        self.line.clear();
        self.flowing = false;
    }

    fn end_line(&mut self) {
        let line = line(std::mem::take(&mut self.line));
        self.done.push(line);
    }

    /// Words, blank space as in HTML.
    fn text(&mut self, text: &str, styles: u8) {
        let mut run = String::new();
        let mut blank = self.line.last().is_none_or(|run| run.text.ends_with(' '));
        for c in text.chars() {
            if matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}') {
                if !blank {
                    run.push(' ');
                }
                blank = true;
            } else {
                run.push(c);
                blank = false;
            }
        }
        if !run.is_empty() {
            self.begin_text();
            self.line.push(Run { text: run, styles });
        }
    }
}

fn list(first: Option<u32>, items: &[Vec<Node>], styles: u8) -> Vec<String> {
    let mut all = Vec::new();
    for (number, item) in items.iter().enumerate() {
        let marker = match first {
            None => "- ".to_owned(),
            Some(first) => format!("{}. ", u64::from(first) + number as u64),
        };
        let indentation = " ".repeat(marker.len());
        let lines = lines(item, styles);
        if lines.is_empty() {
            all.push(marker.trim_end().to_owned());
        }
        for (number, line) in lines.into_iter().enumerate() {
            match (number, line.is_empty()) {
                (0, _) => all.push(format!("{marker}{line}")),
                (_, true) => all.push(line),
                (_, false) => all.push(format!("{indentation}{line}")),
            }
        }
    }
    all
}

fn bit(style: Style) -> u8 {
    DIRECTIVES.iter().position(|(_, known)| *known == Some(style)).map_or(0, |place| 1 << place)
}

/// A character of a line, and what it is.
enum Piece {
    Literal(char),
    /// In code, where nothing opens.
    Code(char),
    Open(char),
    Close(char),
}

impl Piece {
    fn char(&self) -> char {
        match self {
            Self::Literal(c) | Self::Code(c) | Self::Open(c) | Self::Close(c) => *c,
        }
    }
}

/// A line of its runs.
fn line(mut runs: Vec<Run>) -> String {
    while let Some(last) = runs.last_mut() {
        last.text.truncate(last.text.trim_end_matches(' ').len());
        if !last.text.is_empty() {
            break;
        }
        runs.pop();
    }
    for (place, (directive, _)) in DIRECTIVES.iter().enumerate() {
        fit(&mut runs, 1 << place, *directive);
    }
    let pieces = pieces(&runs);
    let last = DIRECTIVES.map(|(directive, _)| pieces.iter().rposition(|piece| piece.char() == directive));
    let mut text = String::new();
    let mut opens = true;
    for (place, piece) in pieces.iter().enumerate() {
        let c = piece.char();
        if let Piece::Literal(_) = piece
            && opens
            && let Some(which) = DIRECTIVES.iter().position(|(directive, _)| *directive == c)
            && last[which] > Some(place)
            && pieces.get(place + 1).is_some_and(|next| !is_space(next.char()))
        {
            text.push(LITERAL);
        }
        text.push(c);
        opens = is_space(c) || matches!(piece, Piece::Open(_));
    }
    if text.starts_with('>') || text.starts_with(FENCE) {
        text.insert(0, LITERAL);
    }
    text
}

/// Makes the stretches of one style such that its directive can stand around them: no blank at either end, and not the
/// directive itself between; such a stretch goes without.
fn fit(runs: &mut Vec<Run>, style: u8, directive: char) {
    let mut fitted: Vec<Run> = Vec::new();
    let mut rest = std::mem::take(runs).into_iter().peekable();
    while let Some(run) = rest.next() {
        if run.styles & style == 0 {
            fitted.push(run);
            continue;
        }
        let mut stretch = vec![run];
        while let Some(run) = rest.next_if(|run| run.styles & style != 0) {
            stretch.push(run);
        }
        if stretch.iter().any(|run| run.text.contains(directive)) {
            for run in &mut stretch {
                run.styles &= !style;
            }
            fitted.extend(stretch);
            continue;
        }
        let mut after = Vec::new();
        while let Some(run) = stretch.last_mut() {
            let kept = run.text.trim_end_matches(is_space).len();
            let blank = run.text.split_off(kept);
            if !blank.is_empty() {
                after.insert(0, Run { text: blank, styles: run.styles & !style });
            }
            if kept > 0 {
                break;
            }
            stretch.pop();
        }
        let mut stretch = stretch.into_iter();
        for mut run in stretch.by_ref() {
            let blank = run.text.len() - run.text.trim_start_matches(is_space).len();
            if blank > 0 {
                let words = run.text.split_off(blank);
                fitted.push(Run { text: run.text, styles: run.styles & !style });
                run.text = words;
            }
            if !run.text.is_empty() {
                fitted.push(run);
                break;
            }
        }
        fitted.extend(stretch);
        fitted.extend(after);
    }
    *runs = fitted;
}

fn pieces(runs: &[Run]) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        let wanted = |place: &usize| run.styles & 1 << place != 0;
        let stay = open.iter().take_while(|place| wanted(place)).count();
        for place in open.drain(stay..).rev() {
            pieces.push(Piece::Close(DIRECTIVES[place].0));
        }
        let mut missing: Vec<usize> =
            (0..DIRECTIVES.len()).filter(|place| wanted(place) && !open.contains(place)).collect();
        // What goes on longest is outermost; code always is innermost.
        let lasts = |place: usize| runs[at..].iter().take_while(|run| run.styles & 1 << place != 0).count();
        missing.sort_by_key(|place| (1 << place == usize::from(CODE), std::cmp::Reverse(lasts(*place))));
        for place in missing {
            pieces.push(Piece::Open(DIRECTIVES[place].0));
            open.push(place);
        }
        let is_code = run.styles & CODE != 0;
        pieces.extend(run.text.chars().map(|c| if is_code { Piece::Code(c) } else { Piece::Literal(c) }));
    }
    pieces.extend(open.drain(..).rev().map(|place| Piece::Close(DIRECTIVES[place].0)));
    pieces
}
