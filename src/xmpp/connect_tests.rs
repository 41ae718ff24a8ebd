//! Tests of finding and reaching places.

use std::collections::HashMap;

use hickory_resolver::{
    config::{NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::{
        op::{Message, ResponseCode},
        rr::{Name, Record as DnsRecord, rdata},
    },
};
use tokio::net::UdpSocket;

use super::*;

#[test]
fn hosts_of_redirects_are_read_in_every_form() {
    let host = |text| parse_host(text).map(|(host, port)| format!("{host} {port}"));
    for (text, read) in [
        ("BAYMSG1020127.gateway.edge.messenger.live.com", "baymsg1020127.gateway.edge.messenger.live.com 5222"),
        ("a.example:5223", "a.example 5223"),
        (" a.example. ", "a.example 5222"),
        ("[2001:DB8::1]:80", "2001:db8::1 80"),
        ("[2001:db8::1]", "2001:db8::1 5222"),
        ("2001:db8::1", "2001:db8::1 5222"),
        ("127.0.0.1:1", "127.0.0.1 1"),
    ] {
        assert_eq!(host(text).as_deref(), Some(read), "{text}");
    }
    for text in ["", ":5222", "a:b", "a:99999", "a:0", "[a]:1", "[::1", "[::1]x", "a b", "a:1:2"] {
        assert_eq!(host(text), None, "{text}");
    }
}

fn record(priority: u16, weight: u16, host: &str) -> Record {
    Record { priority, weight, target: Target { host: host.to_owned(), port: 1, direct: false } }
}

#[test]
fn records_are_tried_by_priority_and_weight() {
    let records = vec![record(20, 0, "last"), record(10, 30, "heavy"), record(10, 10, "light"), record(5, 0, "first")];
    let order = |draw: fn(u32) -> u32| -> Vec<_> {
        in_order(records.clone(), draw).into_iter().map(|target| target.host).collect()
    };
    assert_eq!(order(|_| 0), ["first", "light", "heavy", "last"]);
    assert_eq!(order(|most| most), ["first", "heavy", "light", "last"]);
    // Of 41 draws in the first group of two, 11 fall to the lighter one.
    let light = (0..=40)
        .filter(|n| {
            let mut first = true;
            let group = vec![record(10, 30, "heavy"), record(10, 10, "light")];
            let targets = in_order(group, |_| if std::mem::take(&mut first) { *n } else { 0 });
            targets[0].host == "light"
        })
        .count();
    assert_eq!(light, 11);
}

#[tokio::test]
async fn local_names_and_addresses_need_no_records() {
    let connector = Connector { resolver: None };
    for domain in ["localhost", "127.0.0.1", "[::1]", "chat.localhost"] {
        let targets = connector.targets(domain, TlsMode::Auto).await.unwrap();
        assert_eq!((targets.len(), targets[0].port), (1, DEFAULT_PORT), "{domain}");
    }
    let unknown = connector.targets("a b", TlsMode::Auto).await;
    assert_eq!(unknown, Err(StreamEnd::UnknownHost { host: "a b".to_owned() }));
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refuses() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = { tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap() };
    let io = race(&[free, listener.local_addr().unwrap()]).await.unwrap();
    assert_eq!(io.peer_addr().unwrap(), listener.local_addr().unwrap());
    assert!(race(&[free]).await.is_err());
}

/// A resolver that asks a name server of ours, which knows these records: (priority, weight, port, target) by name.
async fn resolver(zone: HashMap<&'static str, Vec<(u16, u16, u16, &'static str)>>) -> TokioResolver {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut server = NameServerConfig::udp("127.0.0.1".parse().unwrap());
    server.connections[0].port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut buffer = [0; 1024];
        while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
            let query = Message::from_vec(&buffer[..n]).unwrap();
            let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
            let name = query.queries[0].name().clone();
            match zone.get(name.to_ascii().as_str()) {
                None => answer.metadata.response_code = ResponseCode::NXDomain,
                Some(records) => {
                    for (priority, weight, port, target) in records {
                        let target = Name::from_ascii(target).unwrap();
                        let srv = RData::SRV(rdata::SRV::new(*priority, *weight, *port, target));
                        answer.add_answer(DnsRecord::from_rdata(name.clone(), 60, srv));
                    }
                }
            }
            answer.add_query(query.queries[0].clone());
            socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
        }
    });
    let config = ResolverConfig::from_name_servers(vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().case_randomization = false;
    builder.build().unwrap()
}

#[tokio::test]
async fn both_services_are_looked_up_and_merged() {
    let zone = HashMap::from([
        ("_xmpp-client._tcp.a.test.", vec![(10, 0, 5222, "Plain.A.test."), (30, 0, 5222, "last.a.test.")]),
        ("_xmpps-client._tcp.a.test.", vec![(20, 0, 443, "tls.a.test.")]),
        ("_xmpp-client._tcp.gone.test.", vec![(0, 0, 0, ".")]),
        ("_xmpp-client._tcp.half.test.", vec![(0, 0, 0, ".")]),
        ("_xmpps-client._tcp.half.test.", vec![(0, 0, 5223, "tls.half.test.")]),
    ]);
    let connector = Connector { resolver: Some(resolver(zone).await) };
    let shown = async |domain, mode| match connector.targets(domain, mode).await {
        Ok(targets) => {
            targets.iter().map(|target| format!("{target}{}", if target.direct { " direct" } else { "" })).collect()
        }
        Err(end) => vec![end.to_string()],
    };
    let all = ["plain.a.test:5222", "tls.a.test:443 direct", "last.a.test:5222"];
    assert_eq!(shown("a.test", TlsMode::Auto).await, all);
    assert_eq!(shown("a.test", TlsMode::StartTls).await, [all[0], all[2]]);
    assert_eq!(shown("a.test", TlsMode::Direct).await, [all[1]]);
    // "." says that the service is not there, one of two services is enough, and without any the domain itself is it.
    let unknown = "there is no server for gone.test: its name is not known";
    assert_eq!(shown("gone.test", TlsMode::Auto).await, [unknown]);
    assert_eq!(shown("half.test", TlsMode::Auto).await, ["tls.half.test:5223 direct"]);
    assert_eq!(shown("none.test", TlsMode::Auto).await, ["none.test:5222"]);
    assert_eq!(shown("none.test", TlsMode::Direct).await, ["none.test:5223 direct"]);
    for (domain, found) in [
        ("a.test", Found::Records),
        ("half.test", Found::Records),
        ("gone.test", Found::NotHere),
        ("none.test", Found::NoRecords),
        ("localhost", Found::NotAsked),
    ] {
        assert_eq!(connector.find(domain, TlsMode::Auto).await.0, found, "{domain}");
    }
    let deaf = Connector { resolver: None };
    assert_eq!(deaf.find("a.test", TlsMode::Auto).await.0, Found::NoAnswer);
    let end = connector.connect("none.test", &connector.targets("none.test", TlsMode::Auto).await.unwrap()).await;
    assert_eq!(end.err(), Some(StreamEnd::UnknownHost { host: "none.test".to_owned() }));
}
