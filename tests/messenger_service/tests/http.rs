//! The OAuth endpoints, driven as a browser and an application drive them.
use std::collections::BTreeMap;

use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use url::Url;

use super::Stage;
use super::client::Client as Xmpp;

const REDIRECT: &str = "https://app.test/back?keep=1";

fn client() -> Client {
    // Another test may have installed it; the same one then.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().redirect(Policy::none()).build().unwrap()
}

fn encode(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

async fn post(url: &str, fields: &[(&str, &str)]) -> Response {
    let form = client().post(url).header("content-type", "application/x-www-form-urlencoded").body(encode(fields));
    form.send().await.unwrap()
}

async fn json(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

fn location(response: &Response) -> Url {
    assert_eq!(response.status(), StatusCode::FOUND);
    Url::parse(response.headers()["location"].to_str().unwrap()).unwrap()
}

fn ask(stage: &Stage, kind: &str, more: &[(&str, &str)]) -> String {
    let mut fields = vec![
        ("client_id", "app"),
        ("response_type", kind),
        ("redirect_uri", REDIRECT),
        ("scope", "wl.messenger wl.offline_access"),
        ("state", "s+/&="),
    ];
    fields.extend(more);
    format!("{}?{}", stage.service.authorize_url(), encode(&fields))
}

const LOGIN: [(&str, &str); 2] = [("email", "me@messenger.example"), ("password", "secret")];

async fn code(stage: &Stage, more: &[(&str, &str)]) -> String {
    let target = location(&post(&ask(stage, "code", more), &LOGIN).await);
    let query: BTreeMap<_, _> = target.query_pairs().into_owned().collect();
    assert_eq!((query["state"].as_str(), query["keep"].as_str()), ("s+/&=", "1"));
    query["code"].clone()
}

async fn redeem(stage: &Stage, code: &str, more: &[(&str, &str)]) -> (StatusCode, Value) {
    let mut fields =
        vec![("grant_type", "authorization_code"), ("client_id", "app"), ("redirect_uri", REDIRECT), ("code", code)];
    fields.extend(more);
    json(post(&stage.service.token_url(), &fields).await).await
}

async fn refresh(stage: &Stage, token: &str) -> (StatusCode, Value) {
    let fields =
        [("grant_type", "refresh_token"), ("client_id", "app"), ("redirect_uri", REDIRECT), ("refresh_token", token)];
    json(post(&stage.service.token_url(), &fields).await).await
}

#[tokio::test]
async fn a_code_becomes_tokens_and_the_token_signs_in() {
    let stage = Stage::plain().await;
    let page = client().get(ask(&stage, "code", &[("login_hint", "me@\"x")])).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let html = page.text().await.unwrap();
    assert!(html.contains("name=\"password\"") && html.contains("me@&quot;x"));
    let code = code(&stage, &[]).await;
    let (status, tokens) = redeem(&stage, &code, &[]).await;
    assert_eq!(
        (status, &tokens["token_type"], &tokens["expires_in"]),
        (StatusCode::OK, &"bearer".into(), &3600.into())
    );
    let (mut xmpp, _) = Xmpp::up_to_features(&stage.service, stage.service.xmpp_addr()).await;
    assert_eq!(xmpp.auth(tokens["access_token"].as_str().unwrap()).await.name, "success");
    xmpp.bind("x").await;
    assert!(xmpp.jid.starts_with(&stage.me.jid));
    assert_eq!(redeem(&stage, &code, &[]).await.1["error"], "invalid_grant", "a code is good once");

    let (status, renewed) = refresh(&stage, tokens["refresh_token"].as_str().unwrap()).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(renewed["access_token"], tokens["access_token"]);
    stage.service.refuse_refresh(true);
    let (status, refused) = refresh(&stage, renewed["refresh_token"].as_str().unwrap()).await;
    assert_eq!((status, &refused["error"]), (StatusCode::BAD_REQUEST, &"invalid_grant".into()));
    stage.service.refuse_refresh(false);
    stage.service.set(|switches| {
        switches.expires_in_as_text = true;
        switches.token_lifetime_ms = 120_000;
    });
    let (_, renewed) = refresh(&stage, renewed["refresh_token"].as_str().unwrap()).await;
    assert_eq!(renewed["expires_in"], "120");
    let counters = stage.service.counters_of(&stage.me.jid).unwrap();
    assert_eq!((counters.codes_redeemed, counters.refreshes, counters.refreshes_refused), (1, 2, 1));
}

#[tokio::test]
async fn pkce_is_checked_when_it_is_used() {
    let stage = Stage::plain().await;
    // RFC 7636, appendix B.
    let (verifier, challenge) =
        ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    let asked = [("code_challenge", challenge), ("code_challenge_method", "S256")];
    let first = code(&stage, &asked).await;
    assert_eq!(redeem(&stage, &first, &[]).await.1["error"], "invalid_grant");
    let second = code(&stage, &asked).await;
    assert_eq!(redeem(&stage, &second, &[("code_verifier", verifier)]).await.0, StatusCode::OK);
    let plain = post(&ask(&stage, "code", &[("code_challenge", "x")]), &LOGIN).await;
    assert!(location(&plain).query().unwrap().contains("error=invalid_request"));
}

#[tokio::test]
async fn the_implicit_grant_answers_in_the_fragment() {
    let stage = Stage::plain().await;
    let url = ask(&stage, "token", &[]).replace("oauth20_authorize.srf", "authorize");
    let target = location(&post(&url, &LOGIN).await);
    let fragment = target.fragment().unwrap();
    assert!(fragment.contains("%2B"), "a token's plus is encoded");
    let answer: BTreeMap<_, _> = url::form_urlencoded::parse(fragment.as_bytes()).into_owned().collect();
    assert_eq!((answer["token_type"].as_str(), answer["expires_in"].as_str()), ("bearer", "3600"));
    assert!(!answer.contains_key("refresh_token"));
    let (mut xmpp, _) = Xmpp::up_to_features(&stage.service, stage.service.xmpp_addr()).await;
    assert_eq!(xmpp.auth(&answer["access_token"]).await.name, "success");
}

#[tokio::test]
async fn scopes_decide_about_sign_in_and_refresh() {
    let stage = Stage::plain().await;
    let code = code(&stage, &[("scope", "wl.basic")]).await;
    let (_, tokens) = redeem(&stage, &code, &[]).await;
    assert!(tokens.get("refresh_token").is_none());
    let (mut xmpp, _) = Xmpp::up_to_features(&stage.service, stage.service.xmpp_addr()).await;
    assert_eq!(xmpp.auth(tokens["access_token"].as_str().unwrap()).await.name, "failure");
}

#[tokio::test]
async fn what_is_wrong_is_refused() {
    let stage = Stage::new(|settings| settings.oauth_client = Some(("app".into(), Some("top".into())))).await;
    let wrong = post(&ask(&stage, "code", &[]), &[("email", "me@messenger.example"), ("password", "x")]).await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let stranger = client().get(ask(&stage, "code", &[("client_id", "other")])).send().await.unwrap();
    assert_eq!(stranger.status(), StatusCode::BAD_REQUEST);
    let odd = client().get(ask(&stage, "id_token", &[])).send().await.unwrap();
    assert!(location(&odd).query().unwrap().contains("error=unsupported_response_type"));
    let code = code(&stage, &[]).await;
    assert_eq!(redeem(&stage, &code, &[]).await.1["error"], "invalid_client");
    assert_eq!(redeem(&stage, &code, &[("client_secret", "top")]).await.0, StatusCode::OK);
    for (fields, error) in [
        (vec![("client_id", "app"), ("client_secret", "top"), ("grant_type", "password")], "unsupported_grant_type"),
        (vec![("client_id", "app"), ("client_secret", "top"), ("grant_type", "refresh_token")], "invalid_request"),
        (vec![("grant_type", "refresh_token")], "invalid_request"),
    ] {
        assert_eq!(json(post(&stage.service.token_url(), &fields).await).await.1["error"], error);
    }
    let desktop = client().get(stage.service.desktop_url()).send().await.unwrap();
    assert_eq!(desktop.status(), StatusCode::OK);
}
