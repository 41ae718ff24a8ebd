//! Text of strangers that stands among our own words: a name, a reason, a line of a notice.

use super::address::is_unseen;

/// Longest name in characters; what is longer is cut.
pub const MAX_NAME: usize = 100;
/// Accents on one letter that are kept: more are there to cover the lines around it.
const MAX_MARKS: usize = 4;

/// One line of at most `most` characters, without what could make it look like something else: control characters, line
/// breaks, characters that turn the direction of text, and those without width, which make two names look the same. Joiners and
/// variation selectors stay where scripts and emoji need them: behind a letter that is not ASCII.
pub fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    let (mut count, mut marks, mut blank) = (0, 0, false);
    for c in text.chars() {
        if c.is_whitespace() {
            blank = !line.is_empty();
            continue;
        }
        let joins = matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}');
        let last = line.chars().next_back().filter(|_| !blank);
        let wanted = joins && last.is_some_and(|last| !last.is_ascii() && !is_unseen(last));
        marks = if is_mark(c) { marks + 1 } else { 0 };
        if c.is_control() || is_unseen(c) && !wanted || marks > MAX_MARKS {
            continue;
        }
        if std::mem::take(&mut blank) {
            line.push(' ');
            count += 1;
        }
        if count >= most {
            break;
        }
        line.push(c);
        count += 1;
    }
    line.truncate(line.trim_end().len());
    line
}

/// The blocks of combining marks that stand on any letter.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{483}'..='\u{489}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_deceives() {
        for (name, shown) in [
            (" Juliet\u{202e}\n", "Juliet"),
            ("Ju\u{200b}li\u{2060}et\u{feff}", "Juliet"),
            ("Juli\u{200d}et", "Juliet"),
            ("\u{2066}evil\u{2069}\u{200f}\u{61c}", "evil"),
            ("Juliet\u{e0041}\u{3164}\u{ad}", "Juliet"),
            ("Nurse:\r\n\tI am the bot", "Nurse: I am the bot"),
            ("a\u{2028}b\u{2029}c\u{85}d", "a b c d"),
            ("\u{200b}\u{202e} \u{3164}", ""),
            ("a\u{0}\u{1b}[31mb\u{9b}", "a[31mb"),
        ] {
            assert_eq!(one_line(name, MAX_NAME), shown, "{name:?}");
        }
        assert_eq!(one_line(&"x".repeat(200), MAX_NAME).len(), 100);
        assert_eq!(one_line(&format!("Z{}", "\u{301}".repeat(500)), MAX_NAME).chars().count(), 1 + MAX_MARKS);
    }

    #[test]
    fn what_scripts_and_emoji_need_stays() {
        for name in ["👩\u{200d}🚀", "❤\u{fe0f} Juliet", "می\u{200c}خواهم", "Zoë", "Nguyễn Văn A", "שָׁלוֹם"]
        {
            assert_eq!(one_line(name, MAX_NAME), name);
        }
    }
}
