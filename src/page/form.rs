//! A form as a browser sends it, and the mark that says that it is of the visitor's own page.

use std::collections::BTreeMap;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::StreamExt as _;
use hmac::Mac as _;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{LARGEST_FORM, Page};
use crate::domain::{credentials::Secret, request::FieldId};

/// The hidden field that holds the mark.
pub(super) const MARK: &str = "form";
/// The hidden field that says which step is answered.
pub(super) const STEP: &str = "step";

/// What a form of ours held.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub fields: BTreeMap<FieldId, Secret>,
    pub step: Option<u32>,
    mark: Option<Secret>,
}

/// Why a form cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoForm {
    /// Of another type.
    Type,
    /// Over the bound.
    Large,
    /// Not here in time.
    Slow,
    /// Cut off, or not as a form of ours.
    Broken,
}

impl Page {
    /// Marks the forms of a visitor. Whoever does not know the session cannot make it.
    pub(super) fn mark(&self, session: &Secret) -> String {
        let signed = Secret::new(format!("form {}", session.expose()));
        URL_SAFE_NO_PAD.encode(self.form_key.mac(signed.expose()).finalize().into_bytes())
    }

    /// Is it the visitor's own? Compared in constant time.
    pub(super) fn is_own(&self, form: &Form, session: &Secret) -> bool {
        let signed = Secret::new(format!("form {}", session.expose()));
        let given = form.mark.as_ref().and_then(|mark| URL_SAFE_NO_PAD.decode(mark.expose()).ok());
        given.is_some_and(|given| self.form_key.mac(signed.expose()).verify_slice(&given).is_ok())
    }

    /// Reads a form of at most [`LARGEST_FORM`].
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Form, NoForm> {
        let mime = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mime = mime.split(';').next().unwrap_or_default().trim();
        if !mime.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(NoForm::Type);
        }
        let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > LARGEST_FORM) {
            return Err(NoForm::Large);
        }
        let bytes = timeout(self.patience.form, gather(body)).await.unwrap_or(Err(NoForm::Slow))?;
        parse(&bytes)
    }
}

async fn gather(body: Body) -> Result<Zeroizing<Vec<u8>>, NoForm> {
    // As large as it can become: a growing buffer would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LARGEST_FORM));
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| NoForm::Broken)?;
        if bytes.len() + piece.len() > LARGEST_FORM {
            return Err(NoForm::Large);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// A field twice, or one that is not UTF-8, is refused: which one counted, or what was meant, would be a guess.
fn parse(bytes: &[u8]) -> Result<Form, NoForm> {
    let mut form = Form::default();
    for (name, value) in url::form_urlencoded::parse(bytes) {
        let value = Secret::new(value);
        // What is not UTF-8 has become this. A person who types it into a password has very bad luck.
        if value.expose().contains(char::REPLACEMENT_CHARACTER) {
            return Err(NoForm::Broken);
        }
        let twice = match &*name {
            MARK => form.mark.replace(value).is_some(),
            STEP => form.step.replace(value.expose().parse().map_err(|_| NoForm::Broken)?).is_some(),
            name => match FieldId::ALL.into_iter().find(|field| field.as_str() == name) {
                Some(field) => form.fields.insert(field, value).is_some(),
                // What browsers or their extensions add.
                None => false,
            },
        };
        if twice {
            return Err(NoForm::Broken);
        }
    }
    Ok(form)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::{desk::Desk, page::Patience};

    fn page() -> Arc<Page> {
        Page::new(Desk::new(mpsc::channel(1).0), "https://b.test", "Bridge", Patience::default())
    }

    #[test]
    fn a_form_is_read_exactly_as_it_was_typed() {
        let form = parse(b"form=bWFyaw&step=3&account=juliet%40c.test&password=+p%26%3D%C3%A9%F0%9F%94%91%0D%0A+&x=y")
            .unwrap();
        assert_eq!(form.step, Some(3));
        let value = |field| form.fields.get(&field).map(Secret::expose);
        assert_eq!(value(FieldId::Account), Some("juliet@c.test"));
        assert_eq!(value(FieldId::Password), Some(" p&=é🔑\r\n "));
        assert_eq!(form.fields.len(), 2);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        for broken in
            ["password=a&password=b", "step=1&step=2", "form=a&form=b", "step=-1", "step=1e3", "step=", "password=%FF"]
        {
            assert_eq!(parse(broken.as_bytes()).unwrap_err(), NoForm::Broken, "{broken}");
        }
        assert_eq!(parse(b"").unwrap().step, None);
    }

    #[test]
    fn a_mark_belongs_to_one_visitor_of_one_run_of_the_bridge() {
        let (page, other) = (page(), page());
        let (own, anothers) = (Secret::new("7-1.x"), Secret::new("8-1.x"));
        let marked = |mark: &str| Form { mark: Some(Secret::new(mark)), ..Form::default() };
        let mark = page.mark(&own);
        assert!(page.is_own(&marked(&mark), &own));
        assert!(!page.is_own(&marked(&mark), &anothers));
        assert!(!other.is_own(&marked(&mark), &own));
        assert!(!page.is_own(&marked(""), &own));
        assert!(!page.is_own(&marked(&mark[..20]), &own));
        assert!(!page.is_own(&Form::default(), &own));
    }
}
