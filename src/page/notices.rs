//! Pages that say one thing: what went wrong, and what to do.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use maud::{Markup, html};

use super::{
    Page,
    browser::Foreign,
    form::NoForm,
    frame::{Sheet, Sign, sign, worded},
};
use crate::{
    desk::NoAnswer,
    domain::request::{Refusal, RefusalCode},
};

/// How one comes by a new link.
fn again() -> Markup {
    html! { p { "Go back to your chat and send " code { "login" } " to the bot again: it answers with a new link." } }
}

/// The way back into a sign-in that goes on.
fn back() -> Markup {
    html! { p { a class="button" href="/login" { "Back to the sign-in" } } }
}

impl Page {
    fn notice(&self, status: StatusCode, title: &str, inside: &Markup) -> Response {
        let sheet = Sheet::new(title, html! { (sign(Sign::Bad)) h1 { (title) } (inside) });
        self.show(status, &sheet)
    }

    fn without_session(&self, mut response: Response) -> Response {
        if let Some(cookie) = self.forget() {
            response.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        response
    }

    /// No page has that address.
    pub(super) fn no_page(&self) -> Response {
        let inside = html! { p { "Check the address, or open the link from your chat again." } };
        self.notice(StatusCode::NOT_FOUND, "There is no such page", &inside)
    }

    /// A method that the address does not know.
    pub(super) fn no_method(&self) -> Response {
        let inside = html! { p { "Open the link from your chat with a browser." } };
        self.notice(StatusCode::METHOD_NOT_ALLOWED, "That cannot be done here", &inside)
    }

    /// A link that leads nowhere. `here`: this browser has a sign-in in hand, maybe by that very link.
    pub(super) fn no_link(&self, code: RefusalCode, here: bool) -> Response {
        let (status, title) = match code {
            RefusalCode::UsedLink => (StatusCode::GONE, "This link was used already"),
            _ => (StatusCode::NOT_FOUND, "This link does not work, or no longer"),
        };
        let inside = html! {
            p { "For your safety a link works once, and only for some minutes." }
            @if code == RefusalCode::UsedLink && !here {
                p { "If it was not you who opened it, send " code { "cancel" } " to the bot: that ends the sign-in." }
            }
            @if here {
                p { "You have begun a sign-in in this browser. You can go on with it:" }
                (back())
            }
            (again())
        };
        self.notice(status, title, &inside)
    }

    /// Nobody has entered with this browser.
    pub(super) fn no_visitor(&self) -> Response {
        let inside = html! {
            p { "This browser has no sign-in in hand. To begin one, open the link that the bot sent you." }
            (again())
        };
        self.notice(StatusCode::NOT_FOUND, "There is nothing to sign in to", &inside)
    }

    /// Someone comes back from the OAuth provider who has not entered with this browser.
    pub(super) fn other_browser(&self) -> Response {
        let inside = html! {
            p { "This sign-in was begun in another browser, so it cannot be finished in this one. Nobody was signed in." }
            p { "If you began it, go back to that browser. If you did not, close this page." }
        };
        self.notice(StatusCode::FORBIDDEN, "Begun in another browser", &inside)
    }

    /// What the provider sends back is too long to be true.
    pub(super) fn long_return(&self) -> Response {
        let inside = html! {
            p { "The address with which you came back is too long. Nobody was signed in." }
            (back())
        };
        self.notice(StatusCode::URI_TOO_LONG, "That cannot be read", &inside)
    }

    /// The sign-in has ended.
    pub(super) fn ended(&self) -> Response {
        let inside = html! {
            p { "It took too long, it was cancelled, or the bridge was restarted. Nothing that you typed was kept." }
            (again())
        };
        self.without_session(self.notice(StatusCode::GONE, "This sign-in has ended", &inside))
    }

    /// The person has given it up.
    pub(super) fn cancelled(&self) -> Response {
        let inside = html! {
            h1 { "The sign-in is cancelled" }
            p { "Nothing that you typed was kept. You can close this page." }
            (again())
        };
        self.without_session(self.show(StatusCode::OK, &Sheet::new("The sign-in is cancelled", inside)))
    }

    /// A form that is not of the visitor's own page.
    pub(super) fn foreign_form(&self, why: Foreign) -> Response {
        let inside = html! {
            @match why {
                Foreign::Elsewhere => {
                    p { "What you sent did not come from this page, so it was not used. Another site may have tried to act for you." }
                }
                Foreign::Unknown => {
                    p { "Your browser does not say which page sent this, so it was not used. Please use a newer browser, or sign in by what you write to the bot." }
                }
            }
            (back())
        };
        self.notice(StatusCode::FORBIDDEN, "This was not sent from here", &inside)
    }

    /// A form of another sign-in than the one that this browser has in hand.
    pub(super) fn other_form(&self) -> Response {
        let inside = html! {
            p { "What you sent belongs to another sign-in than the one that this browser has in hand, so it was not used." }
            (back())
        };
        self.notice(StatusCode::FORBIDDEN, "Another sign-in was begun", &inside)
    }

    /// A form that cannot be used.
    pub(super) fn no_form(&self, why: NoForm) -> Response {
        let (status, sentence) = match why {
            NoForm::Type => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "What was sent is not a form of this page."),
            NoForm::Large => {
                (StatusCode::PAYLOAD_TOO_LARGE, "What you sent is longer than any password or address may be.")
            }
            NoForm::Slow => {
                (StatusCode::REQUEST_TIMEOUT, "What you sent did not arrive in time. Is your connection slow?")
            }
            NoForm::Broken => {
                (StatusCode::BAD_REQUEST, "What you sent did not arrive whole, or is not a form of this page.")
            }
        };
        self.notice(status, "That cannot be read", &html! { p { (sentence) " It was not used." } (back()) })
    }

    /// The bridge cannot answer just now.
    pub(super) fn later(&self, status: StatusCode, sentence: &str) -> Response {
        let inside = html! {
            p { (sentence) " Please wait a little." }
            // The same address: it may hold a link that was not entered yet, or what the provider gave.
            p { a class="button" href="" { "Try again" } }
        };
        let mut response = self.notice(status, "Please try again in a moment", &inside);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        response
    }

    /// The engine did not answer.
    pub(super) fn no_answer(&self, why: NoAnswer) -> Response {
        let sentence = match why {
            NoAnswer::Busy => "The bridge is busy.",
            NoAnswer::Late => "The bridge takes longer than usual.",
            NoAnswer::Stopping => "The bridge is being restarted.",
        };
        self.later(StatusCode::SERVICE_UNAVAILABLE, sentence)
    }

    /// The engine refuses, and nothing else is known to do about it.
    pub(super) fn refused(&self, refusal: &Refusal) -> Response {
        let status = match refusal.code {
            RefusalCode::NoPermission => StatusCode::FORBIDDEN,
            RefusalCode::NoSuchLogin | RefusalCode::NoSuchFlow | RefusalCode::NoSuchPerson | RefusalCode::WrongLink => {
                StatusCode::NOT_FOUND
            }
            RefusalCode::NoSuchProcess | RefusalCode::UsedLink => StatusCode::GONE,
            RefusalCode::WrongStep | RefusalCode::TooMany => StatusCode::CONFLICT,
            RefusalCode::Unreadable => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalCode::NotNow => StatusCode::SERVICE_UNAVAILABLE,
        };
        self.notice(status, "That did not work", &html! { p { (worded(&refusal.sentence)) } (again()) })
    }

    /// A fault of the program.
    pub(super) fn fault(&self) -> Response {
        tracing::error!("the engine answered the page for signing in with something else than was asked");
        let inside = html! { p { "That is a fault of the bridge. Please tell whoever runs it." } };
        self.notice(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong", &inside)
    }
}
