//! Signing in through the bridge's own doors: one process, whichever door it is seen through.

use std::collections::BTreeMap;

use messenger_bridge::{
    bridge::{Settings, SignInPage, page_link},
    domain::{
        Ticket,
        credentials::{Credentials, Secret},
        file::LinkKey,
        input::Answer,
        output::Ask,
        request::{
            Connection, FieldId, LoginStep, Overview, PageWish, ProcessId, Refusal, RefusalCode, Request, Response,
            Step, StepAnswer, Wish,
        },
        stream::{Refusal as Refused, StreamEnd},
    },
};
use ruma::UserId;

use super::stage::{OWNER, Stage};

const MINUTE: u64 = 60_000;

fn page() -> SignInPage {
    let key = LinkKey::new(zeroize::Zeroizing::new([7; 32]));
    SignInPage { address: "https://bridge.h.test".to_owned(), key }
}

fn with_page() -> Stage {
    let mut stage = Stage::with(Settings { page: Some(page()), ..Stage::settings() });
    stage.management(OWNER);
    stage
}

fn without_page() -> Stage {
    let mut stage = Stage::with(Stage::settings());
    stage.management(OWNER);
    stage
}

fn person(owner: &str, wish: Wish) -> Request {
    Request::Person { owner: UserId::parse(owner).unwrap(), wish }
}

fn start(stage: &mut Stage, flow: &str) -> LoginStep {
    step(stage.ask(person(OWNER, Wish::StartLogin { flow: flow.to_owned(), again: None })))
}

fn fields(given: &[(FieldId, &str)]) -> StepAnswer {
    StepAnswer::Fields(given.iter().map(|(field, text)| (*field, Secret::new(*text))).collect::<BTreeMap<_, _>>())
}

fn go_on(stage: &mut Stage, at: &LoginStep, given: &[(FieldId, &str)]) -> LoginStep {
    let wish = Wish::ContinueLogin { process: at.process, step: at.number, answer: fields(given) };
    step(stage.ask(person(OWNER, wish)))
}

#[track_caller]
fn step((_, response): (Ticket, Option<Response>)) -> LoginStep {
    match response {
        Some(Response::Step(step) | Response::Link(step)) => *step,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn refused((_, response): (Ticket, Option<Response>)) -> Refusal {
    match response {
        Some(Response::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn problem(step: &LoginStep, id: FieldId) -> String {
    match &step.step {
        Step::Fields(fields) => fields.iter().find(|field| field.id == id).unwrap().problem.clone().unwrap_or_default(),
        Step::Link { problem, .. } => problem.clone().unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn enter(stage: &mut Stage, link: &str) -> Secret {
    let link = Secret::new(link.strip_prefix("https://bridge.h.test/login/").unwrap());
    match stage.ask(Request::Page(PageWish::Enter { link })).1 {
        Some(Response::Entered { session }) => session,
        other => panic!("{other:?}"),
    }
}

fn look(stage: &mut Stage, session: &Secret) -> LoginStep {
    step(stage.ask(Request::Page(PageWish::Look { session: session.clone() })))
}

fn on_page(stage: &mut Stage, session: &Secret, given: &[(FieldId, &str)]) -> LoginStep {
    let at = look(stage, session);
    let wish = PageWish::Continue { session: session.clone(), step: at.number, answer: fields(given) };
    step(stage.ask(Request::Page(wish)))
}

/// The link of the page in what the bot said last.
#[track_caller]
fn link(stage: &Stage) -> String {
    let said = stage.last_word();
    let link = said.split_whitespace().find(|word| word.starts_with("https://bridge.h.test/login/"));
    link.unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn by_the_api_with_a_password_and_all_is_told_in_the_management_room() {
    let mut stage = without_page();
    let Some(Response::Flows(flows)) = stage.ask(person(OWNER, Wish::Flows)).1 else { panic!() };
    let ids: Vec<&str> = flows.iter().map(|flow| flow.id.as_str()).collect();
    assert_eq!(ids, ["messenger", "xmpp", "xmpp.token"]);
    let first = start(&mut stage, "xmpp");
    assert!(matches!(&first.step, Step::Fields(fields) if fields.len() == 2) && first.page.is_none(), "{first:?}");
    let wrong = go_on(&mut stage, &first, &[(FieldId::Account, "montague.lit"), (FieldId::Password, "secret")]);
    assert!(problem(&wrong, FieldId::Account).contains("you@example.org"), "{wrong:?}");
    let wrong = go_on(&mut stage, &wrong, &[(FieldId::Account, "romeo@montague.lit")]);
    assert_eq!(problem(&wrong, FieldId::Password), "Please give the password.");
    assert!(stage.connects.is_empty());
    let done = go_on(&mut stage, &wrong, &[(FieldId::Password, " two  blanks ")]);
    let Step::Done { login, account } = &done.step else { panic!("{done:?}") };
    assert_eq!((login, account.as_str()), (&stage.login(), "romeo@montague.lit"));
    let Credentials::Password(password) = &stage.connects[0].credentials else { panic!() };
    assert_eq!(password.expose(), " two  blanks ", "a password is taken exactly as typed");
    assert!(stage.bot_said().iter().any(|said| said.contains("Signed in to romeo@montague.lit")));
    assert!(!format!("{done:?} {:?}", stage.bot_said()).contains("blanks"));
    let Some(Response::Overview(overview)) = stage.ask(person(OWNER, Wish::Overview)).1 else { panic!() };
    let Overview { management, admin, logins } = overview;
    assert!(management.is_some() && !admin);
    assert_eq!((logins.len(), logins[0].connection), (1, Connection::Connected));
}

#[test]
fn a_refused_password_ends_it_for_the_api_and_a_step_is_answered_once() {
    let mut stage = without_page();
    let first = start(&mut stage, "xmpp");
    stage.sign_ins.push_back(StreamEnd::Refused(Refused::NotAuthorized));
    let given = [(FieldId::Account, "romeo@montague.lit"), (FieldId::Password, "secret")];
    let failed = go_on(&mut stage, &first, &given);
    let Step::Failed { sentence } = &failed.step else { panic!("{failed:?}") };
    assert!(sentence.contains("password is wrong") && !sentence.contains("secret"), "{sentence}");
    let again = Wish::ContinueLogin { process: first.process, step: first.number, answer: fields(&given) };
    assert_eq!(refused(stage.ask(person(OWNER, again))).code, RefusalCode::WrongStep);
    assert_eq!(stage.connects.len(), 1);
    // It can be looked at until its time is over.
    let wait = |process| Wish::ContinueLogin { process, step: 2, answer: StepAnswer::Wait };
    assert!(matches!(step(stage.ask(person(OWNER, wait(first.process)))).step, Step::Failed { .. }));
    stage.pass(16 * MINUTE);
    assert_eq!(refused(stage.ask(person(OWNER, wait(first.process)))).code, RefusalCode::NoSuchProcess);
}

#[test]
fn nobody_sees_or_ends_what_another_has_begun() {
    let mut stage = without_page();
    let first = start(&mut stage, "xmpp");
    for wish in [
        Wish::ContinueLogin { process: first.process, step: first.number, answer: StepAnswer::Wait },
        Wish::CancelLogin { process: first.process },
        Wish::CancelLogin { process: ProcessId { made: messenger_bridge::domain::Timestamp(0), ..first.process } },
    ] {
        assert_eq!(refused(stage.ask(person("@paris:h.test", wish))).code, RefusalCode::NoSuchProcess);
    }
    assert_eq!(refused(stage.ask(person("@mallory:elsewhere.test", Wish::Flows))).code, RefusalCode::NoPermission);
    let cancel = stage.ask(person(OWNER, Wish::CancelLogin { process: first.process }));
    assert!(matches!(cancel.1, Some(Response::Done)), "{cancel:?}");
    let gone = Wish::ContinueLogin { process: first.process, step: first.number, answer: StepAnswer::Wait };
    assert_eq!(refused(stage.ask(person(OWNER, gone))).code, RefusalCode::NoSuchProcess);
}

#[test]
fn a_person_has_few_sign_ins_at_once_and_ended_ones_make_room() {
    let mut stage = without_page();
    let first = start(&mut stage, "xmpp");
    for _ in 0..3 {
        start(&mut stage, "xmpp");
    }
    let more = || person(OWNER, Wish::StartLogin { flow: "xmpp".to_owned(), again: None });
    assert_eq!(refused(stage.ask(more())).code, RefusalCode::TooMany);
    let other = person("@paris:h.test", Wish::StartLogin { flow: "xmpp".to_owned(), again: None });
    step(stage.ask(other));
    go_on(&mut stage, &first, &[(FieldId::Account, "romeo@montague.lit"), (FieldId::Password, "secret")]);
    step(stage.ask(more()));
    stage.pass(16 * MINUTE);
    for _ in 0..4 {
        step(stage.ask(more()));
    }
}

#[test]
fn a_link_of_the_page_may_be_looked_at_and_is_used_up_by_entering() {
    let mut stage = with_page();
    stage.command("login xmpp");
    assert!(stage.last_word().contains("`login xmpp you@example.org`"), "{}", stage.last_word());
    let link = link(&stage);
    let token = link.strip_prefix("https://bridge.h.test/login/").unwrap();
    let see = |token: &str| Request::Page(PageWish::See { link: Secret::new(token) });
    for _ in 0..3 {
        let seen = step(stage.ask(see(token)));
        assert_eq!((seen.owner.as_str(), seen.network.as_str()), (OWNER, "xmpp"));
    }
    for forged in ["", "1-1.x", "return", &token.replace('1', "2"), &format!("{token}A")] {
        assert_eq!(refused(stage.ask(see(forged))).code, RefusalCode::WrongLink, "{forged}");
    }
    let session = enter(&mut stage, &link);
    assert_eq!(refused(stage.ask(see(token))).code, RefusalCode::UsedLink);
    let again = Request::Page(PageWish::Enter { link: Secret::new(token) });
    assert_eq!(refused(stage.ask(again)).code, RefusalCode::UsedLink);
    assert!(look(&mut stage, &session).page.is_none());
    // The link is no session, and the next message is no password: the account is not known.
    let forged = Request::Page(PageWish::Look { session: Secret::new(token) });
    assert_eq!(refused(stage.ask(forged)).code, RefusalCode::NoSuchProcess);
    stage.command("version");
    assert!(stage.last_word().contains("9.9"));
    stage.pass(16 * MINUTE);
    let ended = Request::Page(PageWish::Look { session });
    assert_eq!(refused(stage.ask(ended)).code, RefusalCode::NoSuchProcess);
}

#[test]
fn on_the_page_a_wrong_password_may_be_given_again_some_times() {
    let mut stage = with_page();
    stage.command("login xmpp romeo@montague.lit");
    let (link, said) = (link(&stage), stage.bot_said().len());
    let session = enter(&mut stage, &link);
    stage.sign_ins.push_back(StreamEnd::Refused(Refused::NotAuthorized));
    let wrong = on_page(&mut stage, &session, &[(FieldId::Password, "secret")]);
    assert!(problem(&wrong, FieldId::Password).contains("password is wrong"), "{wrong:?}");
    stage.sign_ins.push_back(StreamEnd::UnknownHost { host: "montague.lit".to_owned() });
    let wrong = on_page(&mut stage, &session, &[(FieldId::Password, "secret")]);
    assert!(problem(&wrong, FieldId::Account).contains("montague.lit"), "{wrong:?}");
    assert_eq!(stage.bot_said().len(), said, "the page says it, the bot does not");
    let done = on_page(&mut stage, &session, &[(FieldId::Password, "right")]);
    assert!(matches!(done.step, Step::Done { .. }), "{done:?}");
    assert!(stage.bot_said().iter().any(|said| said.contains("Signed in to romeo@montague.lit")));
    // What is said in the room belongs to the sign-in no longer.
    stage.command("version");
    assert!(stage.last_word().contains("9.9"));

    stage.command("login xmpp romeo@montague.lit");
    let link = self::link(&stage);
    let session = enter(&mut stage, &link);
    for _ in 0..4 {
        stage.sign_ins.push_back(StreamEnd::Refused(Refused::NotAuthorized));
        let wrong = on_page(&mut stage, &session, &[(FieldId::Password, "guess")]);
        assert!(matches!(wrong.step, Step::Fields(_)), "{wrong:?}");
    }
    stage.sign_ins.push_back(StreamEnd::Refused(Refused::NotAuthorized));
    let failed = on_page(&mut stage, &session, &[(FieldId::Password, "guess")]);
    assert!(matches!(failed.step, Step::Failed { .. }), "{failed:?}");
}

#[test]
fn the_chat_goes_on_beside_the_page() {
    let mut stage = with_page();
    stage.command("login xmpp romeo@montague.lit");
    let session = {
        let link = link(&stage);
        enter(&mut stage, &link)
    };
    stage.command("secret");
    assert!(matches!(look(&mut stage, &session).step, Step::Done { .. }));
    assert_eq!(stage.connects.len(), 1);
}

#[test]
fn by_the_provider_and_back_with_nothing_to_paste() {
    let mut stage = with_page();
    stage.account = "0123456789abcdef@messenger.live.com";
    stage.command("login messenger");
    let session = {
        let link = link(&stage);
        enter(&mut stage, &link)
    };
    let at = look(&mut stage, &session);
    assert!(matches!(&at.step, Step::Link { authorize, returns: true, .. } if authorize.contains("login.live.com")));
    let back = "https://bridge.h.test/login/return";
    assert!(matches!(&stage.asked[0], Ask::BeginOAuth { redirect: Some(redirect), .. } if redirect == back));
    // Another site sends the person's browser here: nothing comes of it.
    for (address, word) in [
        (format!("{back}?code=c&state=other"), "does not belong"),
        (format!("{back}?error=access_denied"), "refused"),
        (back.to_owned(), "try again"),
    ] {
        let at = on_page(&mut stage, &session, &[(FieldId::Redirect, &address)]);
        assert!(problem(&at, FieldId::Redirect).contains(word), "{at:?}");
    }
    assert!(stage.connects.is_empty());
    let done = on_page(&mut stage, &session, &[(FieldId::Redirect, &format!("{back}?code=c&state=s"))]);
    assert!(matches!(done.step, Step::Done { .. }), "{done:?}");
    assert!(matches!(&stage.asked[1], Ask::RedeemCode { redirect: Some(redirect), .. } if redirect == back));
}

#[test]
fn a_code_that_the_provider_does_not_take_gets_a_new_link() {
    let mut stage = with_page();
    stage.command("login messenger");
    let session = {
        let link = link(&stage);
        enter(&mut stage, &link)
    };
    stage.oauth.push_back(Answer::OAuthFailed { refused: true, sentence: "the code has expired".to_owned() });
    let at = on_page(&mut stage, &session, &[(FieldId::Redirect, "https://bridge.h.test/login/return?code=c&state=s")]);
    assert_eq!(problem(&at, FieldId::Redirect), "The code has expired.");
    let begun = stage.asked.iter().filter(|ask| matches!(ask, Ask::BeginOAuth { .. })).count();
    assert_eq!(begun, 2);
}

#[test]
fn the_api_waits_until_the_person_is_back_from_the_page() {
    let mut stage = with_page();
    stage.account = "0123456789abcdef@messenger.live.com";
    let at = start(&mut stage, "messenger");
    let page = at.page.clone().unwrap();
    let wait = Wish::ContinueLogin { process: at.process, step: at.number, answer: StepAnswer::Wait };
    let (ticket, nothing) = stage.ask(person(OWNER, wait));
    assert!(nothing.is_none());
    let session = enter(&mut stage, page.expose());
    on_page(&mut stage, &session, &[(FieldId::Redirect, "https://bridge.h.test/login/return?code=c&state=s")]);
    let answer = stage.responses.remove(&ticket);
    assert!(matches!(&answer, Some(Response::Step(step)) if matches!(step.step, Step::Done { .. })), "{answer:?}");
}

#[test]
fn few_wait_for_one_sign_in_and_all_are_told_when_it_is_given_up() {
    let mut stage = with_page();
    let at = start(&mut stage, "messenger");
    let wait = || person(OWNER, Wish::ContinueLogin { process: at.process, step: at.number, answer: StepAnswer::Wait });
    let tickets: Vec<Ticket> = (0..4).map(|_| stage.ask(wait()).0).collect();
    assert!(stage.responses.is_empty());
    let (last, _) = stage.ask(wait());
    assert!(matches!(stage.responses.remove(&tickets[0]), Some(Response::Step(_))), "the oldest goes");
    stage.pass(16 * MINUTE);
    for ticket in tickets.iter().skip(1).chain([&last]) {
        let answer = stage.responses.remove(ticket);
        assert!(
            matches!(&answer, Some(Response::Step(step)) if matches!(step.step, Step::Failed { .. })),
            "{answer:?}"
        );
    }
    assert!(stage.responses.is_empty());
}

#[test]
fn a_sign_in_ends_after_a_quarter_of_an_hour_and_takes_no_message_for_a_password() {
    let mut stage = without_page();
    stage.command("login xmpp romeo@montague.lit");
    stage.pass(16 * MINUTE);
    assert!(stage.last_word().contains("15 minutes"), "{}", stage.last_word());
    stage.command("hunter2");
    assert!(stage.connects.is_empty());
}

#[test]
fn nobody_is_signed_in_to_more_accounts_than_allowed_and_no_password_travels_for_it() {
    let mut stage = Stage::with(Settings { max_logins: 1, ..Stage::settings() });
    stage.sign_in("");
    stage.command("login xmpp benvolio@montague.lit secret");
    assert!(stage.last_word().contains("one account at most"), "{}", stage.last_word());
    let at = start(&mut stage, "xmpp");
    let at = go_on(&mut stage, &at, &[(FieldId::Account, "benvolio@montague.lit"), (FieldId::Password, "secret")]);
    assert!(problem(&at, FieldId::Account).contains("at most"), "{at:?}");
    assert_eq!(stage.connects.len(), 1);
    // Whose account it is, only the provider says.
    stage.account = "0123456789abcdef@messenger.live.com";
    stage.command("login messenger");
    stage.command("https://login.live.com/oauth20_desktop.srf?code=c&state=s");
    assert!(stage.last_word().contains("at most"), "{}", stage.last_word());
    assert_eq!(stage.engine.store().logins().unwrap().len(), 1);
    // The account that is there may sign in again.
    stage.account = "romeo@montague.lit";
    stage.command("login xmpp romeo@montague.lit other");
    assert!(stage.bot_said().iter().any(|said| said.contains("Signed in to romeo@montague.lit again")));
}

#[test]
fn relogin_is_for_that_account_alone() {
    let mut stage = Stage::xmpp("<item jid='juliet@capulet.lit' subscription='both'/>");
    let (login, room) = (stage.login(), stage.room("juliet@capulet.lit"));
    stage.command("relogin nobody@montague.lit");
    assert!(stage.last_word().contains("no such login"));
    stage.command("relogin romeo@montague.lit");
    assert!(stage.last_word().contains("password of romeo@montague.lit"), "{}", stage.last_word());
    stage.command("new");
    assert!(stage.bot_said().iter().any(|said| said.contains("Signed in to romeo@montague.lit again")));
    stage.pass(10_000);
    assert_eq!((stage.login(), stage.room("juliet@capulet.lit")), (login, room));
    let again = Some("romeo@montague.lit".to_owned());
    let at = step(stage.ask(person(OWNER, Wish::StartLogin { flow: "xmpp".to_owned(), again: again.clone() })));
    assert_eq!(at.again.as_ref().map(messenger_bridge::domain::BareJid::as_str), Some("romeo@montague.lit"));
    let at = go_on(&mut stage, &at, &[(FieldId::Account, "paris@montague.lit"), (FieldId::Password, "x")]);
    assert!(problem(&at, FieldId::Account).contains("romeo@montague.lit signs in again"), "{at:?}");
    let wrong = Wish::StartLogin { flow: "messenger".to_owned(), again };
    assert_eq!(refused(stage.ask(person(OWNER, wrong))).code, RefusalCode::NoSuchFlow);
    let none = Wish::StartLogin { flow: "xmpp".to_owned(), again: Some("x".to_owned()) };
    assert_eq!(refused(stage.ask(person(OWNER, none))).code, RefusalCode::NoSuchLogin);
}

#[test]
fn relogin_by_the_provider_as_somebody_else_changes_nothing() {
    let mut stage = Stage::messenger("");
    let login = stage.login();
    stage.command(&format!("relogin {login}"));
    stage.account = "fedcba9876543210@messenger.live.com";
    stage.command("https://login.live.com/oauth20_desktop.srf?code=c&state=s");
    assert!(stage.last_word().contains("Nothing was changed"), "{}", stage.last_word());
    assert_eq!(stage.engine.store().logins().unwrap().len(), 1);
    assert_eq!(stage.login(), login);
}

#[test]
fn links_are_made_with_a_key_of_the_bridges_own() {
    let mut stage = with_page();
    let at = start(&mut stage, "xmpp");
    let other = SignInPage { key: LinkKey::new(zeroize::Zeroizing::new([8; 32])), ..page() };
    assert_ne!(page_link::link(&other, at.process).expose(), at.page.clone().unwrap().expose());
    assert_eq!(page_link::link(&page(), at.process).expose(), at.page.unwrap().expose());
}
