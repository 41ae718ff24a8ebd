//! A lenient view of a stanza: each concept takes its payload out, what is left is counted, and a part that cannot be
//! read takes nothing else with it.

use minidom::{
    Element,
    rxml::{Namespace, NcName},
};

use crate::domain::Address;

/// The namespace of client stanzas (RFC 6120).
pub const CLIENT: &str = xmpp_parsers::ns::JABBER_CLIENT;
/// The namespace of stanza error conditions (RFC 6120 section 8.3).
pub const STANZAS: &str = xmpp_parsers::ns::XMPP_STANZAS;

/// A stanza whose payloads are taken out one by one.
#[derive(Clone, Debug)]
pub struct Stanza {
    /// `from`, where it is an address.
    pub from: Option<Address>,
    /// `to`, where it is an address.
    pub to: Option<Address>,
    /// `id`; empty counts as none.
    pub id: Option<String>,
    /// `type` as it came; empty if there is none.
    pub kind: String,
    children: Vec<Element>,
}

impl Stanza {
    /// Reads a stanza. An address that is none becomes `None`; its rules decide what that means.
    pub fn read(element: &Element) -> Self {
        let address = |name: &str| element.attr(name).and_then(|text| Address::parse(text).ok());
        Self {
            from: address("from"),
            to: address("to"),
            id: element.attr("id").filter(|id| !id.is_empty()).map(str::to_owned),
            kind: element.attr("type").unwrap_or_default().to_owned(),
            children: element.children().cloned().collect(),
        }
    }

    /// Takes out the first child of this name and namespace.
    pub fn take(&mut self, name: &str, namespace: &str) -> Option<Element> {
        let at = self.children.iter().position(|child| child.is(name, namespace))?;
        Some(self.children.remove(at))
    }

    /// Takes out all children of a namespace.
    pub fn take_all(&mut self, namespace: &str) -> Vec<Element> {
        let (taken, left) = std::mem::take(&mut self.children).into_iter().partition(|child| child.ns() == namespace);
        self.children = left;
        taken
    }

    /// Puts children in, or back that are somebody else's.
    pub fn put_back(&mut self, children: Vec<Element>) {
        self.children.extend(children);
    }

    /// Takes out the text of the best child of this name in the stanza's own namespace: one without a language, else the
    /// first (RFC 6121 section 5.2.3 allows one per language).
    pub fn take_text(&mut self, name: &str) -> Option<String> {
        let (mut taken, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.children)
            .into_iter()
            .partition(|child| child.name() == name && child.ns() == CLIENT);
        self.children = left;
        let best = taken.iter().position(|child| !has_language(child)).unwrap_or(0);
        if taken.is_empty() { None } else { Some(taken.swap_remove(best).text()) }
    }

    /// The text that [`Self::take_text`] would take out.
    pub fn text(&self, name: &str) -> Option<String> {
        let mut texts = self.children.iter().filter(|child| child.name() == name && child.ns() == CLIENT);
        let first = texts.clone().find(|child| !has_language(child));
        first.or_else(|| texts.next()).map(Element::text)
    }

    /// Is there a child of this name and namespace?
    pub fn has(&self, name: &str, namespace: &str) -> bool {
        self.children.iter().any(|child| child.is(name, namespace))
    }

    /// What nobody took.
    pub fn leftovers(&self) -> &[Element] {
        &self.children
    }
}

fn has_language(element: &Element) -> bool {
    element.attrs().iter().any(|((_, name), _)| name.as_str() == "lang")
}

/// An element in a namespace.
pub fn element(name: &str, namespace: &str) -> Element {
    Element::bare(name, namespace)
}

/// An element with text.
pub fn text_element(name: &str, namespace: &str, text: &str) -> Element {
    let mut element = Element::bare(name, namespace);
    element.append_text(legal(text));
    element
}

/// Sets an attribute. The names that we write are legal ones; any other is not written.
pub fn set(element: &mut Element, name: &str, value: impl Into<String>) {
    if let Ok(name) = NcName::try_from(name) {
        element.set_attr(Namespace::NONE, name, legal(&value.into()));
    }
}

/// Sets attributes that every stanza has.
pub fn addressed(name: &str, to: Option<&str>, kind: Option<&str>, id: Option<&str>) -> Element {
    let mut stanza = Element::bare(name, CLIENT);
    if let Some(to) = to {
        set(&mut stanza, "to", to);
    }
    if let Some(kind) = kind {
        set(&mut stanza, "type", kind);
    }
    if let Some(id) = id {
        set(&mut stanza, "id", id);
    }
    stanza
}

/// Replaces what XML 1.0 forbids (section 2.2), one for one, by U+FFFD.
pub fn legal(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\t' | '\n' | '\r' => c,
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// Writes an element as XML, the way it goes over the wire. `None` if it holds what XML cannot.
pub fn to_xml(element: &Element) -> Option<String> {
    let mut bytes = Vec::new();
    element.write_to(&mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_addresses_and_types_do_not_lose_the_stanza() {
        let element: Element =
            "<message xmlns='jabber:client' from='' to='a@b/😀' type='nonsense' id=''><body>hi</body></message>"
                .parse()
                .unwrap();
        let mut stanza = Stanza::read(&element);
        assert_eq!((stanza.from.is_none(), stanza.id.clone(), stanza.kind.as_str()), (true, None, "nonsense"));
        assert_eq!(stanza.to.clone().unwrap().resource.as_deref(), Some("😀"));
        assert_eq!(stanza.take_text("body").as_deref(), Some("hi"));
        assert!(stanza.leftovers().is_empty());
    }

    #[test]
    fn the_body_without_a_language_wins() {
        let element: Element =
            "<message xmlns='jabber:client'><body xml:lang='de'>hallo</body><body>hello</body></message>"
                .parse()
                .unwrap();
        assert_eq!(Stanza::read(&element).take_text("body").as_deref(), Some("hello"));
    }

    #[test]
    fn what_xml_forbids_is_replaced_one_for_one() {
        assert_eq!(legal("a\u{0}b\u{1b}\n\t\u{ffff}😀"), "a\u{fffd}b\u{fffd}\n\t\u{fffd}😀");
        let xml = to_xml(&text_element("body", CLIENT, "a\u{0}b")).unwrap();
        assert!(xml.parse::<Element>().is_ok());
    }
}
