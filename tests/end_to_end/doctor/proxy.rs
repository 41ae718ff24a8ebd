//! A proxy as people have them before a homeserver or a bridge, with one thing wrong.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What it does wrong.
#[derive(Debug, Clone, Copy)]
pub enum Change {
    /// It takes the `Authorization` header away.
    NoToken,
    /// Its answers are dated so many seconds later.
    Date(i64),
    /// It does not pass on what is below this path.
    NotFound(&'static str),
}

/// A running proxy; its port is free again when it is dropped.
pub struct Proxy<'a> {
    runtime: &'a Runtime,
    task: Option<JoinHandle<()>>,
}

struct Way {
    to: u16,
    change: Change,
    client: reqwest::Client,
}

impl<'a> Proxy<'a> {
    /// From one port of 127.0.0.1 to another, for HTTP.
    pub fn start(runtime: &'a Runtime, from: u16, to: u16, change: Change) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let router = Router::new().fallback(pass).with_state(Arc::new(Way { to, change, client }));
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", from))).expect("its port");
        let task = runtime.spawn(async move { axum::serve(listener, router).await.expect("serve") });
        Self { runtime, task: Some(task) }
    }

    /// The same under TLS, and nothing else wrong.
    pub fn start_tls(runtime: &'a Runtime, from: u16, to: u16, shown: (rcgen::Certificate, rcgen::KeyPair)) -> Self {
        let (certificate, key) = shown;
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", from))).expect("its port");
        let task = runtime.spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let (Ok(mut secured), Ok(mut plain)) =
                        (acceptor.accept(io).await, TcpStream::connect(("127.0.0.1", to)).await)
                    else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut secured, &mut plain).await;
                });
            }
        });
        Self { runtime, task: Some(task) }
    }
}

impl Drop for Proxy<'_> {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = self.runtime.block_on(task);
        }
    }
}

async fn pass(State(way): State<Arc<Way>>, request: Request) -> Response {
    if let Change::NotFound(path) = way.change
        && request.uri().path().starts_with(path)
    {
        return (StatusCode::NOT_FOUND, "<html>there is no such page</html>").into_response();
    }
    let url = format!("http://127.0.0.1:{}{}", way.to, request.uri());
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let mut onward = way.client.request(parts.method, url).body(body);
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
        let taken = matches!(way.change, Change::NoToken) && name == header::AUTHORIZATION;
        if let Some(value) = parts.headers.get(&name).filter(|_| !taken) {
            onward = onward.header(name, value);
        }
    }
    let Ok(answer) = onward.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let (status, kind) = (answer.status(), answer.headers().get(header::CONTENT_TYPE).cloned());
    let mut response = Response::new(Body::from(answer.bytes().await.unwrap_or_default()));
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    if let Change::Date(later) = way.change {
        let form =
            format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
        let date = (OffsetDateTime::now_utc() + time::Duration::seconds(later)).format(form).expect("a date");
        response.headers_mut().insert(header::DATE, HeaderValue::from_str(&date).expect("a header"));
    }
    response
}
