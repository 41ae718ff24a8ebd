//! Fallbacks (XEP-0428): text for clients that do not know a concept. What stands for one that we know is not shown.

use minidom::Element;

use super::stanza::{Stanza, element, set};

/// XEP-0428.
pub const NS: &str = "urn:xmpp:fallback:0";

/// Most ranges that are read of one fallback.
const RANGES: usize = 16;

/// The part of a body that stands for something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// From this code point to before that one (XEP-0426).
    Range(usize, usize),
}

/// Takes out the fallbacks for a namespace and gives the parts of the body that they name. None where there is no fallback.
pub fn take(stanza: &mut Stanza, namespace: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut others = Vec::new();
    for fallback in stanza.take_all(NS) {
        if fallback.attr("for") != Some(namespace) {
            others.push(fallback);
            continue;
        }
        let bodies: Vec<&Element> = fallback.children().filter(|child| child.is("body", NS)).take(RANGES).collect();
        if bodies.is_empty() && fallback.children().next().is_none() {
            parts.push(Part::Whole);
        }
        for body in bodies {
            let place = |name| body.attr(name).map(|text| text.parse::<usize>().ok());
            match (place("start"), place("end")) {
                (Some(Some(start)), Some(Some(end))) if start <= end => parts.push(Part::Range(start, end)),
                (None, None) => parts.push(Part::Whole),
                // A range that is none cuts nothing: rather too much text than too little.
                _ => {}
            }
        }
    }
    stanza.put_back(others);
    parts
}

/// The text without those parts.
pub fn cut(text: &str, parts: &[Part]) -> String {
    if parts.contains(&Part::Whole) {
        return String::new();
    }
    let inside = |place: usize| {
        parts.iter().any(|part| matches!(part, Part::Range(start, end) if (*start..*end).contains(&place)))
    };
    text.chars().enumerate().filter(|(place, _)| !inside(*place)).map(|(_, c)| c).collect()
}

/// The element that says which part of our body stands for something else; the whole body where none is given.
pub fn to_xmpp(namespace: &str, range: Option<(usize, usize)>) -> Element {
    let mut fallback = element("fallback", NS);
    set(&mut fallback, "for", namespace);
    if let Some((start, end)) = range {
        let mut body = element("body", NS);
        set(&mut body, "start", start.to_string());
        set(&mut body, "end", end.to_string());
        fallback.append_child(body);
    }
    fallback
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stanza(inner: &str) -> Stanza {
        Stanza::read(&format!("<message xmlns='jabber:client'>{inner}</message>").parse().unwrap())
    }

    /// XEP-0428 section 3, and XEP-0461 section 3.1, whose ranges count code points.
    #[test]
    fn the_parts_that_stand_for_what_is_known_are_cut() {
        let xml = format!(
            "<fallback xmlns='{NS}' for='urn:x'><body start='0' end='4'/></fallback><fallback xmlns='{NS}' for='urn:y'/>"
        );
        let mut stanza = stanza(&xml);
        let parts = take(&mut stanza, "urn:x");
        assert_eq!(cut("😀 a\nhi", &parts), "hi");
        assert_eq!(stanza.leftovers().len(), 1, "another's fallback stays");
        assert_eq!(cut("all", &take(&mut stanza, "urn:y")), "");
        assert_eq!(cut("all", &take(&mut stanza, "urn:y")), "all");
    }

    #[test]
    fn ranges_that_are_none_cut_nothing() {
        for attributes in ["start='5' end='2'", "start='-1' end='2'", "start='0'", "end='2'", "start='a' end='b'"] {
            let xml = format!("<fallback xmlns='{NS}' for='urn:x'><body {attributes}/></fallback>");
            assert_eq!(cut("text", &take(&mut stanza(&xml), "urn:x")), "text", "{attributes}");
        }
        let far = format!("<fallback xmlns='{NS}' for='urn:x'><body start='2' end='99999999999'/></fallback>");
        assert_eq!(cut("text", &take(&mut stanza(&far), "urn:x")), "te");
    }

    proptest! {
        #[test]
        fn what_we_write_is_read(quote in "\\PC{0,20}", text in "\\PC{0,20}") {
            let range = (0, quote.chars().count());
            let xml = crate::translate::stanza::to_xml(&to_xmpp("urn:x", Some(range))).unwrap();
            let parts = take(&mut stanza(&xml), "urn:x");
            prop_assert_eq!(cut(&format!("{quote}{text}"), &parts), text);
        }
    }
}
