//! Places: `m.location` <-> a `geo:` URI as the body (RFC 5870), as phones send it; what the sender says of the place stands
//! beside it (XEP-0080).

use minidom::Element;
use ruma::events::room::message::LocationMessageEventContent;
use serde_json::json;

use super::stanza::Stanza;
use crate::domain::effect::MatrixEvent;

/// XEP-0080.
pub const NS: &str = "http://jabber.org/protocol/geoloc";

/// Longest description of a place, in characters.
const LONGEST: usize = 200;

/// A place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// `geo:latitude,longitude`, with what else was given.
    pub uri: String,
    /// What it is called.
    pub name: Option<String>,
}

/// Takes a place out of a stanza: a body that is nothing but a `geo:` URI, or the payload of XEP-0080.
pub fn from_xmpp(stanza: &mut Stanza) -> Option<Place> {
    let payload = stanza.take("geoloc", NS);
    let body = stanza.text("body").unwrap_or_default();
    if is_place(body.trim()) {
        stanza.take_text("body");
        let name = payload.as_ref().and_then(described);
        return Some(Place { uri: body.trim().to_owned(), name });
    }
    if !body.is_empty() {
        // The words say what the sender wants said.
        return None;
    }
    let payload = payload?;
    let number = |name: &str| {
        let text = payload.get_child(name, NS)?.text();
        let number: f64 = text.trim().parse().ok()?;
        number.is_finite().then(|| text.trim().to_owned())
    };
    let uri = format!("geo:{},{}", number("lat")?, number("lon")?);
    is_place(&uri).then(|| Place { uri, name: described(&payload) })
}

fn described(payload: &Element) -> Option<String> {
    let text = ["text", "description", "building", "street", "locality"]
        .iter()
        .find_map(|name| payload.get_child(*name, NS).map(Element::text).filter(|text| !text.trim().is_empty()))?;
    Some(text.trim().chars().filter(|c| !c.is_control()).take(LONGEST).collect())
}

/// Is it `geo:latitude,longitude` within the world (RFC 5870 section 3.3), perhaps with an altitude and parameters?
fn is_place(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("geo:").filter(|rest| rest.len() < 200) else { return false };
    let (coordinates, parameters) = rest.split_once([';', '?']).unwrap_or((rest, ""));
    let numbers: Option<Vec<f64>> = coordinates.split(',').map(|part| part.parse().ok()).collect();
    let within = match numbers.as_deref() {
        Some([latitude, longitude] | [latitude, longitude, _]) => latitude.abs() <= 90.0 && longitude.abs() <= 180.0,
        _ => false,
    };
    within && !parameters.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// The event of a place.
pub fn to_matrix(place: &Place) -> MatrixEvent {
    let body = match &place.name {
        Some(name) => format!("{name} ({})", place.uri),
        None => place.uri.clone(),
    };
    let content = json!({ "msgtype": "m.location", "body": body, "geo_uri": place.uri, "m.mentions": {} });
    MatrixEvent { kind: "m.room.message".to_owned(), content: content.to_string() }
}

/// The body of a place that the person shares: the URI alone, for that is what phones know. `None` if it is none.
pub fn from_matrix(content: &LocationMessageEventContent) -> Option<String> {
    is_place(&content.geo_uri).then(|| content.geo_uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(inner: &str) -> Option<Place> {
        from_xmpp(&mut Stanza::read(&format!("<message xmlns='jabber:client'>{inner}</message>").parse().unwrap()))
    }

    #[test]
    fn only_a_body_that_is_nothing_but_a_place_is_one() {
        let place = read("<body>geo:48.2010,16.3695,183</body>").unwrap();
        assert_eq!(place, Place { uri: "geo:48.2010,16.3695,183".to_owned(), name: None });
        assert!(read("<body>geo:48.198634,16.371648;crs=wgs84;u=40</body>").is_some());
        for body in ["geo:48.2", "geo:91,0", "geo:1,181", "geo:x,y", "here: geo:1,2", "geo:1,2 or so", "geo:NaN,1"] {
            assert_eq!(read(&format!("<body>{body}</body>")), None, "{body}");
        }
    }

    /// XEP-0080 section 4, example 1.
    #[test]
    fn the_payload_names_a_place() {
        let geoloc = "<geoloc xmlns='http://jabber.org/protocol/geoloc' xml:lang='en'><accuracy>20</accuracy><country>Italy</country>\
                      <lat>45.44</lat><locality>Venice</locality><lon>12.33</lon></geoloc>";
        let place = read(geoloc).unwrap();
        assert_eq!(place, Place { uri: "geo:45.44,12.33".to_owned(), name: Some("Venice".to_owned()) });
        assert!(to_matrix(&place).content.contains("\"geo_uri\":\"geo:45.44,12.33\""));
        assert_eq!(read(&format!("<body>I am here</body>{geoloc}")), None, "words are words");
    }
}
