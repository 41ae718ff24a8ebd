//! A name server that what runs through it asks alone: the system's settings are others in a mount namespace of its own.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use crate::end_to_end::ground;

/// A running name server.
pub struct NameServer {
    settings: PathBuf,
    script: String,
}

/// DNS has no other port, so this process has an address of its own, and another where nothing answers.
fn address(net: u8) -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, net, high, low)
}

const SERVER: u8 = 53;
const NOBODY: u8 = 54;

impl NameServer {
    /// With these SRV records: name, port, target. Every other name below `test` is 127.0.0.1. `None` without root.
    pub fn start(records: &[(&str, u16, &str)]) -> Option<Self> {
        if !ground::is_root() {
            return None;
        }
        let socket = UdpSocket::bind((address(SERVER), 53)).expect("the port of DNS");
        let records: Vec<(String, u16, Name)> = records
            .iter()
            .map(|(name, port, target)| ((*name).to_owned(), *port, Name::from_ascii(target).expect("a name")))
            .collect();
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                if let Some(answer) =
                    Message::from_vec(&buffer[..length]).ok().and_then(|query| answer(&query, &records))
                {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        let settings = ground::folder("dns").join("resolv.conf");
        fs::write(&settings, format!("nameserver {}\n", address(SERVER))).expect("write its settings");
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"".to_owned();
        Some(Self { settings, script })
    }

    /// What runs a program that asks it.
    pub fn runner(&self) -> Vec<&str> {
        let settings = self.settings.to_str().expect("a path");
        vec!["unshare", "--mount", "--propagation", "private", "sh", "-c", &self.script, settings]
    }

    /// The same from now on with a name server that does not answer.
    pub fn deaf(&self) -> Vec<&str> {
        fs::write(&self.settings, format!("nameserver {}\n", address(NOBODY))).expect("write its settings");
        self.runner()
    }
}

fn answer(query: &Message, records: &[(String, u16, Name)]) -> Option<Vec<u8>> {
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    let asked = query.queries.first()?;
    // Names may come in mixed case, which the answer has to repeat.
    let (name, plain) = (asked.name().clone(), asked.name().to_ascii().to_lowercase());
    let srv = records.iter().find(|(name, ..)| *name == plain);
    let data = match (asked.query_type(), srv) {
        (RecordType::SRV, Some((_, port, target))) => Some(RData::SRV(SRV::new(0, 0, *port, target.clone()))),
        (RecordType::A, None) if plain.ends_with(".test.") => Some(RData::A(A::new(127, 0, 0, 1))),
        _ => None,
    };
    match data {
        Some(data) => drop(answer.add_answer(Record::from_rdata(name, 60, data))),
        None if asked.query_type() == RecordType::SRV => answer.metadata.response_code = ResponseCode::NXDomain,
        None => {}
    }
    answer.add_query(asked.clone());
    answer.to_vec().ok()
}
