//! The steps of a sign-in as pages.

use std::time::{SystemTime, UNIX_EPOCH};

use maud::{Markup, html};

use super::{
    form::{MARK, STEP},
    frame::{Sheet, Sign, sign, worded},
};
use crate::domain::request::{Field, FieldId, LoginStep, Step};

/// For whom and what a link is, and the way in. The form goes to the page's own address, so that the link stands nowhere in it.
pub(super) fn entrance(step: &LoginStep) -> Sheet {
    let account = step.again.as_ref().map(ToString::to_string).or_else(|| prefilled(step));
    let title = if step.again.is_some() { "Sign in again" } else { "Sign in" };
    Sheet::new(
        title,
        html! {
            h1 { (title) }
            p { "The bot in your chat made this link. Check that it is meant for you:" }
            dl {
                div { dt { "Your Matrix account" } dd { (step.owner) } }
                div { dt { "Network" } dd { (step.network) } }
                @if let Some(account) = account { div { dt { "Account there" } dd { (account) } } }
            }
            p { "Go on only if that Matrix account is yours: whoever has it will read and write the chats of the account that you sign in to." }
            form method="post" { button { "Continue" } }
            div class="note" { p { "The link works once, " (time_left(step)) "." } }
        },
    )
}

/// The present step. `mark`: of the visitor's forms. `said`: what was wrong with the last answer as a whole.
pub(super) fn present(step: &LoginStep, mark: &str, said: Option<&str>) -> Sheet {
    match &step.step {
        Step::Fields(fields) => fill_in(step, fields, mark, said),
        Step::Link { authorize, returns, problem } => {
            provider(step, authorize, *returns, mark, said.or(problem.as_deref()))
        }
        Step::Wait => Sheet {
            title: "Signing in…".to_owned(),
            // It is answered once there is news: a page that loaded itself again and again would be read out again and again.
            goes_on: Some("/login/wait"),
            inside: html! {
                (sign(Sign::Working))
                h1 { "Signing in…" }
                p role="status" { "This takes some seconds. The page goes on by itself." }
                p { a href="/login" { "Look again" } " if it does not." }
                (give_up(mark))
            },
        },
        Step::Done { account, .. } => Sheet::new(
            "Signed in",
            html! {
                (sign(Sign::Good))
                h1 { "Signed in" }
                p { "Signed in as " strong { (account) } ". Your contacts are on their way." }
                p { "You can close this page and go back to your chat." }
            },
        ),
        Step::Failed { sentence } => Sheet::new(
            "The sign-in did not work",
            html! {
                (sign(Sign::Bad))
                h1 { "The sign-in did not work" }
                p role="alert" { (worded(sentence)) }
                p { "To try again, go back to your chat and send " code { "login " (step.network) } " to the bot." }
            },
        ),
    }
}

fn fill_in(step: &LoginStep, fields: &[Field], mark: &str, said: Option<&str>) -> Sheet {
    let title = if step.again.is_some() { "Sign in again" } else { "Sign in" };
    let wrong = said.is_some() || fields.iter().any(|field| field.problem.is_some());
    // Where one goes on to type: what was wrong, else what is empty.
    let first = fields.iter().find(|field| field.problem.is_some());
    let first = first.or_else(|| fields.iter().find(|field| field.value.is_none())).map(|field| field.id);
    let has = |id| fields.iter().any(|field| field.id == id);
    Sheet::new(
        titled(title, wrong),
        html! {
            h1 { (title) }
            (whose(step))
            @if wrong { (problems(fields, said)) }
            form method="post" action="/login" {
                (hidden(step, mark))
                @for field in fields { (input(field, first == Some(field.id))) }
                button { "Sign in" }
            }
            (give_up(mark))
            @if has(FieldId::Password) {
                div class="note" {
                    h2 { "Where your password goes" }
                    p {
                        "Over TLS through this bridge to the server of your account, and nowhere else. Where that server allows it, the bridge \
                         keeps keys made from it (SCRAM), which open nothing else; where not, it keeps the password, sealed. It never stands in a \
                         chat."
                    }
                }
            } @else if has(FieldId::Token) {
                div class="note" {
                    h2 { "Where your token goes" }
                    p { "Over TLS through this bridge to the server of your account, and nowhere else. The bridge keeps it sealed. It never stands in a chat." }
                }
            }
        },
    )
}

fn provider(step: &LoginStep, authorize: &str, returns: bool, mark: &str, said: Option<&str>) -> Sheet {
    let host = url::Url::parse(authorize).ok().filter(|url| matches!(url.scheme(), "https" | "http"));
    let Some(host) = host.and_then(|url| url.host_str().map(str::to_owned)) else {
        return Sheet::new(
            "The sign-in did not work",
            html! {
                (sign(Sign::Bad))
                h1 { "The sign-in did not work" }
                p role="alert" { "The address of the provider's page, as the bridge has it, cannot be opened. Please tell whoever runs the bridge." }
            },
        );
    };
    let title = format!("Sign in at {host}");
    let pasted = Field {
        id: FieldId::Redirect,
        name: "Address of the last page".to_owned(),
        description: "The whole of it, as the browser's address bar shows it.".to_owned(),
        value: None,
        problem: said.map(str::to_owned),
    };
    let pasted = std::slice::from_ref(&pasted);
    Sheet::new(
        titled(&title, said.is_some()),
        html! {
            h1 { (title) }
            (whose(step))
            @if returns {
                @if let Some(said) = said { (problems(&[], Some(said))) }
                p { "The next page belongs to " strong { (host) } ". It asks you to sign in there and to let this bridge chat for you. Then it sends you back here." }
                // A link, and not a form: a provider may send its visitors on to other hosts of its own, which `form-action` would stop.
                p { a class="button" href=(authorize) rel="noreferrer" { "Go to " (host) } }
            } @else {
                @if said.is_some() { (problems(pasted, None)) }
                ol {
                    li { "Open the page of " strong { (host) } ", and sign in there." }
                    li { "Copy the whole address of the page that you end on." }
                    li { "Come back to this page and paste it." }
                }
                p { a class="button" href=(authorize) target="_blank" rel="noopener noreferrer" { "Open " (host) " in a new tab" } }
                form method="post" action="/login" {
                    (hidden(step, mark))
                    @for field in pasted { (input(field, false)) }
                    button { "Continue" }
                }
            }
            (give_up(mark))
            div class="note" {
                h2 { "Your password stays there" }
                p { "The bridge gets a token with which it can chat for you. It keeps the token sealed, and you can take it back at " (host) "." }
            }
        },
    )
}

fn titled(title: &str, wrong: bool) -> String {
    if wrong { format!("Error: {title}") } else { title.to_owned() }
}

fn whose(step: &LoginStep) -> Markup {
    html! {
        p class="for" {
            "For the Matrix account " strong { (step.owner) } ", on the network " strong { (step.network) }
            @if let Some(account) = &step.again { ", as " strong { (account) } }
            "."
        }
    }
}

/// Said first, for those who do not see the fields, with a way to each.
fn problems(fields: &[Field], said: Option<&str>) -> Markup {
    let told = fields.iter().filter_map(|field| Some((field.id.as_str(), field.problem.as_deref()?)));
    html! {
        div class="problem" role="alert" {
            @if let Some(said) = said { p { (worded(said)) } }
            @for (id, problem) in told { p { a href=(format!("#{id}")) { (worded(problem)) } } }
        }
    }
}

fn hidden(step: &LoginStep, mark: &str) -> Markup {
    html! {
        input type="hidden" name=(MARK) value=(mark);
        input type="hidden" name=(STEP) value=(step.number);
    }
}

/// What a secret field holds is never written, even if someone hands it over.
fn input(field: &Field, first: bool) -> Markup {
    let id = field.id.as_str();
    let (hint, wrong) = (format!("{id}-hint"), format!("{id}-problem"));
    let described = match (field.description.is_empty(), field.problem.is_some()) {
        (true, false) => None,
        (true, true) => Some(wrong.clone()),
        (false, false) => Some(hint.clone()),
        (false, true) => Some(format!("{wrong} {hint}")),
    };
    let (kind, complete) = match field.id {
        FieldId::Account => ("text", "username"),
        FieldId::Password => ("password", "current-password"),
        FieldId::Token => ("password", "off"),
        FieldId::Redirect => ("text", "off"),
    };
    let mode = match field.id {
        FieldId::Account => Some("email"),
        FieldId::Redirect => Some("url"),
        FieldId::Password | FieldId::Token => None,
    };
    let value = field.value.as_deref().filter(|_| !field.id.is_secret());
    html! {
        div class="field" {
            label for=(id) { (field.name) }
            @if !field.description.is_empty() { p class="hint" id=(hint) { (field.description) } }
            @if let Some(problem) = &field.problem { p class="wrong" id=(wrong) { (worded(problem)) } }
            input id=(id) name=(id) type=(kind) value=[value] autocomplete=(complete) inputmode=[mode] autocapitalize="none"
                spellcheck="false" required aria-invalid=[field.problem.as_ref().map(|_| "true")] aria-describedby=[described]
                autofocus[first];
        }
    }
}

fn give_up(mark: &str) -> Markup {
    html! {
        form method="post" action="/login/cancel" {
            input type="hidden" name=(MARK) value=(mark);
            button class="quiet" { "Cancel" }
        }
    }
}

/// The account that the bot was told already.
fn prefilled(step: &LoginStep) -> Option<String> {
    let Step::Fields(fields) = &step.step else { return None };
    fields.iter().find(|field| field.id == FieldId::Account)?.value.clone()
}

fn time_left(step: &LoginStep) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let left = i128::from(step.ends.0) - i128::try_from(now).unwrap_or(i128::MAX);
    match left.max(0) / 60_000 {
        0 => "within the next minute".to_owned(),
        1 => "within the next 2 minutes".to_owned(),
        minutes => format!("within the next {minutes} minutes"),
    }
}
