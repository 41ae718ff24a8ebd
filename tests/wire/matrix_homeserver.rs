//! A homeserver that answers as each test says, and remembers what it was asked.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{Response, StatusCode},
};
use messenger_bridge::{
    domain::credentials::Secret,
    matrix::{
        client::Client,
        counters::Counters,
        presence_task::PresenceKeeper,
        sender::{MatrixSender, REQUESTS_AT_ONCE},
    },
};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

/// A request as the homeserver saw it.
#[derive(Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub token: String,
    pub content_type: String,
    pub accept_encoding: String,
    pub body: Vec<u8>,
    answer: oneshot::Sender<Response<Body>>,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub fn query(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The method and the path after `/_matrix/`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path.trim_start_matches("/_matrix/"))
    }

    pub fn answer(self, status: u16, body: &str) {
        self.answer_with(status, &[], body);
    }

    pub fn answer_with(self, status: u16, headers: &[(&str, &str)], body: &str) {
        let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        // The asker may have gone away, as in the tests of lost answers.
        let _ = self.answer.send(response.body(Body::from(body.to_owned())).unwrap());
    }
}

/// Answers one by one, in the order in which the requests came.
pub struct Homeserver {
    pub url: String,
    asked: mpsc::Receiver<Asked>,
    /// Lines of all requests that were taken.
    pub lines: Arc<Mutex<Vec<String>>>,
}

impl Homeserver {
    pub async fn start() -> Self {
        // Both shells' TLS uses ring; another test may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (tell, asked) = mpsc::channel(100);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(tell);
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, asked, lines: Arc::default() }
    }

    pub async fn next(&mut self) -> Asked {
        let asked = self.asked.recv().await.unwrap();
        self.lines.lock().unwrap().push(asked.line());
        asked
    }

    /// No request is waiting.
    pub fn is_quiet(&mut self) -> bool {
        self.asked.try_recv().is_err()
    }

    pub fn client(&self) -> Client {
        Client::new(&self.url, Secret::new("as-token")).unwrap()
    }

    pub fn sender(&self) -> Arc<MatrixSender> {
        let counters = Arc::new(Counters::default());
        let presence = PresenceKeeper::new(20, Arc::clone(&counters));
        Arc::new(MatrixSender::new(self.client(), counters, presence, REQUESTS_AT_ONCE))
    }

    /// Answers every request by `rule` from now on.
    pub fn serve(mut self, rule: impl Fn(&Asked) -> (u16, String) + Send + 'static) -> Arc<Mutex<Vec<String>>> {
        let lines = Arc::clone(&self.lines);
        tokio::spawn(async move {
            loop {
                let asked = self.next().await;
                let (status, body) = rule(&asked);
                asked.answer(status, &body);
            }
        });
        lines
    }
}

async fn take(State(tell): State<mpsc::Sender<Asked>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let header =
        |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let (token, content_type, accept_encoding) =
        (header("authorization"), header("content-type"), header("accept-encoding"));
    let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let body = axum::body::to_bytes(body, 1 << 24).await.unwrap().to_vec();
    let (answer, answered) = oneshot::channel();
    let (method, path) = (parts.method.to_string(), parts.uri.path().to_owned());
    let asked = Asked { method, path, query, token, content_type, accept_encoding, body, answer };
    if tell.send(asked).await.is_err() {
        return Response::builder().status(503).body(Body::empty()).unwrap();
    }
    answered.await.unwrap()
}
