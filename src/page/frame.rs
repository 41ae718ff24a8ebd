//! What every page of it has: the head, the name above, one sheet with one heading.

use std::sync::LazyLock;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest as _, Sha256};

use super::Page;

/// It stands in each page, so that there is nothing else to load.
const STYLE: &str = include_str!("style.css");

/// As a policy of content names it (CSP level 3 section 2.3.1).
pub(super) fn style_hash() -> &'static str {
    static HASH: LazyLock<String> = LazyLock::new(|| format!("sha256-{}", STANDARD.encode(Sha256::digest(STYLE))));
    &HASH
}

/// One page.
pub(super) struct Sheet {
    /// What it is about, for the window's title.
    pub title: String,
    /// Where the browser goes on to at once, while this is shown.
    pub goes_on: Option<&'static str>,
    /// With the one heading.
    pub inside: Markup,
}

impl Sheet {
    pub fn new(title: impl Into<String>, inside: Markup) -> Self {
        Self { title: title.into(), goes_on: None, inside }
    }
}

impl Page {
    /// The sheet as an answer.
    pub(super) fn show(&self, status: StatusCode, sheet: &Sheet) -> Response {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    @if let Some(next) = sheet.goes_on {
                        meta http-equiv="refresh" content=(format!("0; url={next}"));
                    }
                    title { (sheet.title) " – " (self.name) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header { (logo()) span { (self.name) } }
                    main { (sheet.inside) }
                    footer {
                        "A bridge between Matrix and other chat networks. Whoever runs it can read what passes through it."
                    }
                }
            }
        };
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        (status, [(header::CONTENT_TYPE, html)], page.into_string()).into_response()
    }

    /// Goes on to another page of ours, by `GET`.
    pub(super) fn go(to: &'static str) -> Response {
        (StatusCode::SEE_OTHER, [(header::LOCATION, HeaderValue::from_static(to))]).into_response()
    }
}

/// Two speech bubbles, joined.
fn logo() -> Markup {
    html! {
        svg viewBox="0 0 32 32" fill="none" stroke="currentColor" stroke-width="2.5" stroke-linejoin="round" aria-hidden="true" {
            path d="M4 5h15a2 2 0 0 1 2 2v7a2 2 0 0 1-2 2h-8l-5 4v-4H4a2 2 0 0 1-2-2V7a2 2 0 0 1 2-2z" {}
            path d="M25 11h3a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-2v4l-5-4h-7a2 2 0 0 1-2-2v-1" {}
        }
    }
}

/// A sentence as the bot says it, in which commands stand between backticks.
pub(super) fn worded(sentence: &str) -> Markup {
    let parts: Vec<&str> = sentence.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return html! { (sentence) };
    }
    html! {
        @for (number, part) in parts.into_iter().enumerate() {
            @if !number.is_multiple_of(2) { code { (part) } } @else { (part) }
        }
    }
}

/// What a page is about at a glance, beside its words.
#[derive(Clone, Copy)]
pub(super) enum Sign {
    Good,
    Bad,
    Working,
}

pub(super) fn sign(sign: Sign) -> Markup {
    let drawn = |class: &str, path: &str| {
        html! {
            div class=(class) {
                svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2.5" stroke-linecap="round"
                    stroke-linejoin="round" aria-hidden="true" { path d=(path) {} }
            }
        }
    };
    match sign {
        Sign::Good => drawn("mark good", "M4.5 12.5l5 5 10-11"),
        Sign::Bad => drawn("mark bad", "M12 5v8.5M12 18.5v.01"),
        Sign::Working => html! { div class="mark turning" {} },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_in_a_sentence_are_told_from_its_words() {
        let shown = |sentence: &str| worded(sentence).into_string();
        assert_eq!(
            shown("Sign out with `logout <x>`, please."),
            "Sign out with <code>logout &lt;x&gt;</code>, please."
        );
        assert_eq!(shown("`login` begins & ends"), "<code>login</code> begins &amp; ends");
        assert_eq!(shown("one ` alone"), "one ` alone");
        assert_eq!(shown(""), "");
    }
}
