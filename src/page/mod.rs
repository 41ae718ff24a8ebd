//! The page on which people sign in with a browser: `/login` below `web.public_address`.
//!
//! It holds no state and no rules. A link of the bot's ([`crate::bridge::page_link`]) is looked at (`GET`, which changes nothing:
//! programs that preview links do it too) and entered (`POST`, which uses it up). What stands for the visitor from then on is in a
//! cookie; what is to be done, the engine says. Every answer to a form is a redirect, so that loading a page again repeats nothing.
//!
//! | path | method | what |
//! |---|---|---|
//! | `/login/<link>` | GET | for whom and what the link is |
//! | `/login/<link>` | POST | enters |
//! | `/login` | GET | the present step |
//! | `/login` | POST | answers it |
//! | `/login/wait` | GET | the present step, once it is another; what the page "Signing in…" goes on to |
//! | `/login/return` | GET | where the OAuth provider sends the person back to (RFC 6749 section 4.1.2) |
//! | `/login/elsewhere` | GET | whoever comes back from there in another browser is told so |
//! | `/login/cancel` | POST | gives it up |
//! | `/login/cancel` | GET | goes back, for who comes there by the address bar |

mod browser;
mod form;
mod frame;
mod headers;
mod notices;
mod steps;
mod visit;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::Response,
    routing::get,
};
use rand::random;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::{
    bridge::page_link::{PATH, RETURN},
    desk::Desk,
    domain::file::LinkKey,
};

/// Requests that are handled at once; whoever comes then is told to come again. Fewer than [`crate::desk::PLACES`], so that
/// visitors do not take every place from the HTTP API.
pub const AT_ONCE: usize = 48;
/// The largest form that is read, in bytes.
pub const LARGEST_FORM: usize = 16 * 1024;
/// The longest query that an OAuth provider may send a person back with, in bytes.
pub const LONGEST_RETURN: usize = 8 * 1024;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A form, until it is here.
    pub form: Duration,
    /// The engine, with what needs no one else.
    pub engine: Duration,
    /// A step, until the person is shown that it is being worked on.
    pub step: Duration,
    /// The page that shows it, until it is loaded again.
    pub wait: Duration,
    /// That page, at least.
    pub pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            form: Duration::from_secs(10),
            engine: Duration::from_secs(10),
            step: Duration::from_secs(3),
            // Proxies give up after a minute, some after half of one.
            wait: Duration::from_secs(20),
            pause: Duration::from_secs(1),
        }
    }
}

/// The page for signing in.
#[derive(Debug)]
pub struct Page {
    desk: Arc<Desk>,
    /// What stands above every page: the bot's name.
    name: String,
    /// As browsers write it (RFC 6454 section 6.1).
    origin: String,
    address: String,
    /// Browsers come by TLS.
    secure: bool,
    /// What forms are marked with. It lives as long as sign-ins do: until the bridge ends.
    form_key: LinkKey,
    places: Semaphore,
    patience: Patience,
}

impl Page {
    /// `address`: `web.public_address`, without a slash at its end. `name`: what stands above every page.
    pub fn new(desk: Arc<Desk>, address: &str, name: &str, patience: Patience) -> Arc<Self> {
        let origin = url::Url::parse(address).map(|url| url.origin().ascii_serialization()).unwrap_or_default();
        Arc::new(Self {
            desk,
            name: name.to_owned(),
            secure: origin.starts_with("https:"),
            origin,
            address: address.to_owned(),
            form_key: LinkKey::new(Zeroizing::new(random())),
            places: Semaphore::new(AT_ONCE),
            patience,
        })
    }

    /// The endpoints.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route(PATH, get(visit::look).post(visit::answer))
            .route("/login/", get(visit::nowhere))
            .route("/login/wait", get(visit::wait))
            .route("/login/cancel", get(visit::home).post(visit::cancel))
            .route(RETURN, get(visit::come_back))
            .route(visit::ELSEWHERE, get(visit::elsewhere))
            .route("/login/{link}", get(visit::see).post(visit::enter))
            .route("/login/{link}/{*rest}", get(visit::nowhere))
            .method_not_allowed_fallback(visit::other_method)
            .layer(middleware::from_fn_with_state(Arc::clone(self), bounded))
            .layer(middleware::from_fn_with_state(Arc::clone(self), headers::harden))
            .with_state(Arc::clone(self))
    }
}

/// So many at once and no more.
async fn bounded(State(page): State<Arc<Page>>, request: Request, next: Next) -> Response {
    match page.places.try_acquire() {
        Ok(_place) => next.run(request).await,
        Err(_) => page.later(StatusCode::SERVICE_UNAVAILABLE, "Many people are signing in just now."),
    }
}
