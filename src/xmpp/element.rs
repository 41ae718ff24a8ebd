//! Elements of our own, and the way that elements are written.

use std::{borrow::Cow, iter::Peekable};

use minidom::Element;
use rxml::{Namespace, NcName};
use xso::{AsXml, Item, error::Error};

use super::guard::is_xml_character;

/// The namespace of stanzas.
pub const NS_CLIENT: &str = "jabber:client";
/// The namespace of the stream's own elements.
pub const NS_STREAM: &str = "http://etherx.jabber.org/streams";

/// An element of our own, with attributes of no namespace.
pub fn element(name: &str, namespace: &str, attributes: &[(&str, &str)]) -> Element {
    let mut element = Element::bare(name, namespace);
    for (name, value) in attributes {
        if let Ok(name) = NcName::try_from(*name) {
            element.attrs_mut().insert(Namespace::NONE, name, (*value).to_owned());
        }
    }
    element
}

/// An element as it goes into a stream. Characters that XML forbids become U+FFFD, so that an element which was counted
/// is always written: the library would refuse it. An element without content takes the short form.
pub struct Outgoing<'e>(pub &'e Element);

impl AsXml for Outgoing<'_> {
    type ItemIter<'x>
        = Items<'x>
    where
        Self: 'x;

    fn as_xml_iter(&self) -> Result<Items<'_>, Error> {
        Ok(Items(self.0.as_xml_iter()?.peekable()))
    }
}

/// The parts of an [`Outgoing`].
pub struct Items<'x>(Peekable<<Element as AsXml>::ItemIter<'x>>);

impl<'x> Iterator for Items<'x> {
    type Item = Result<Item<'x>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = match self.0.next()? {
            Ok(Item::ElementHeadEnd) => match self.0.next_if(|next| matches!(next, Ok(Item::ElementFoot))) {
                Some(foot) => return Some(foot),
                None => Item::ElementHeadEnd,
            },
            Ok(Item::Text(text)) => Item::Text(allowed(text)),
            Ok(Item::Attribute(namespace, name, value)) => Item::Attribute(namespace, name, allowed(value)),
            other => return Some(other),
        };
        Some(Ok(item))
    }
}

fn allowed(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.chars().all(is_xml_character) {
        return text;
    }
    text.chars().map(|c| if is_xml_character(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}
