//! A sign-in's step as bridgev2 has it (`bridgev2/login.go`). Its ids say which sign-in and which step it is, so that nothing has
//! to be remembered between two requests.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::reply::Problem;
use crate::domain::{
    credentials::Secret,
    request::{Field, FieldId, LoginStep, ProcessId, Step},
};

/// What ids of steps begin with.
const PREFIX: &str = "org.messenger_bridge";

/// What a step wants, as far as its id says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Fields, or the address that a provider's page has led to.
    Fields,
    /// To be waited for.
    Link,
}

impl Kind {
    fn of(step: &Step) -> &'static str {
        match step {
            Step::Fields(_) => "fields",
            Step::Link { returns: false, .. } => "redirect",
            Step::Link { returns: true, .. } => "page",
            Step::Wait => "wait",
            Step::Done { .. } => "complete",
            Step::Failed { .. } => "failed",
        }
    }
}

fn step_id(step: &LoginStep) -> String {
    format!("{PREFIX}.{}.{}", Kind::of(&step.step), step.number)
}

fn txn_id(process: ProcessId, number: u32) -> String {
    format!("bls_{process}_{number}")
}

/// Which step of a sign-in a request answers: its number.
///
/// # Errors
/// The ids are no step's, another one's, or of a step that is answered otherwise.
pub fn read(process: ProcessId, id: &str, txn: Option<&str>, kind: Kind) -> Result<u32, Problem> {
    let wrong = |sentence| Problem::bad("M_BAD_STATE", sentence);
    let parsed = id.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.')).and_then(|rest| rest.split_once('.'));
    let Some((word, Ok(number))) = parsed.map(|(word, number)| (word, number.parse::<u32>())) else {
        return Err(wrong("Step ID does not match."));
    };
    if txn.is_some_and(|txn| txn != txn_id(process, number)) {
        return Err(wrong("Transaction ID does not match."));
    }
    let fits = match kind {
        Kind::Fields => matches!(word, "fields" | "redirect"),
        Kind::Link => word == "page",
    };
    if fits { Ok(number) } else { Err(wrong("Step type does not match.")) }
}

fn field(field: &Field) -> Value {
    let kind = match field.id {
        FieldId::Account => "username",
        FieldId::Password => "password",
        FieldId::Token => "token",
        FieldId::Redirect => "url",
    };
    let mut json =
        json!({ "type": kind, "id": field.id.as_str(), "name": field.name, "description": field.description });
    if let Some(value) = field.value.as_ref().filter(|_| !field.id.is_secret()) {
        json["default_value"] = value.as_str().into();
    }
    json
}

/// The step as it goes out.
///
/// # Errors
/// The sign-in has failed, or there is nothing for the person to do yet.
pub fn write(step: &LoginStep) -> Result<Value, Problem> {
    let (kind, instructions, payload) = match &step.step {
        Step::Fields(fields) => {
            let problems: Vec<&str> = fields.iter().filter_map(|field| field.problem.as_deref()).collect();
            let payload = json!({ "fields": fields.iter().map(field).collect::<Vec<_>>(), "attachments": [] });
            ("user_input", problems.join(" "), payload)
        }
        Step::Link { authorize, returns: false, problem } => {
            let name = "Address";
            let description = "The whole address of the page that you end on.".to_owned();
            let id = FieldId::Redirect;
            let asked = Field { id, name: name.to_owned(), description, value: None, problem: None };
            let problem = problem.as_ref().map(|problem| format!("{problem}\n")).unwrap_or_default();
            let instructions = format!(
                "{problem}Open this link and sign in: {authorize}\nThen copy the whole address of the page that you end on, and give it here."
            );
            ("user_input", instructions, json!({ "fields": [field(&asked)], "attachments": [] }))
        }
        Step::Link { returns: true, .. } => {
            let (instructions, shown) = match step.page.as_ref().map(Secret::expose) {
                Some(page) => {
                    (format!("Open this page and sign in there: {page}"), json!({ "type": "code", "data": page }))
                }
                None => ("Go on on the page that you have opened.".to_owned(), json!({ "type": "nothing" })),
            };
            ("display_and_wait", instructions, shown)
        }
        Step::Done { login, account } => {
            ("complete", format!("Signed in to {account}."), json!({ "user_login_id": login.as_str() }))
        }
        Step::Failed { sentence } => {
            let code = "ORG.MESSENGER_BRIDGE.LOGIN_FAILED";
            return Err(Problem::new(StatusCode::FORBIDDEN, code, sentence.as_str()));
        }
        Step::Wait => return Err(crate::desk::NoAnswer::Late.into()),
    };
    let mut json = json!({
        "login_id": step.process.to_string(),
        "type": kind,
        "step_id": step_id(step),
        "txn_id": txn_id(step.process, step.number),
        "instructions": instructions,
    });
    json[kind] = payload;
    Ok(json)
}
