//! Tests of the transport, with the library's stream on it.

use futures::StreamExt;
use minidom::Element;
use rxml::NcName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_xmpp::xmlstream::{ReadError, StreamHeader, Timeouts, initiate_stream};

use super::super::{
    element::{NS_CLIENT, Outgoing},
    wire::{Stream, io_words, read_words},
};
use super::*;

pub const HEADER: &str =
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

async fn open<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> io::Result<Stream<IO>> {
    let header = StreamHeader { to: Some("capulet.lit".into()), ..StreamHeader::default() };
    let opened = initiate_stream(Transport::new(io), NS_CLIENT, header, Timeouts::default()).await?;
    Ok(opened.skip_features())
}

async fn elements<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> (Vec<Element>, String) {
    let mut stream = match open(io).await {
        Ok(stream) => stream,
        Err(error) => return (Vec::new(), io_words(&error)),
    };
    let mut elements = Vec::new();
    loop {
        match stream.next().await.unwrap() {
            Ok(element) => elements.push(element),
            Err(error) => return (elements, read_words(&error, stream.get_stream()).unwrap()),
        }
    }
}

fn run<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}

/// The elements of a stream that consists of `text`, and why there are no more.
pub fn read_all(text: &str) -> (Vec<Element>, String) {
    run(elements(tokio::io::join(text.as_bytes(), tokio::io::sink())))
}

#[test]
fn a_stream_is_read_in_its_parts() {
    let stanzas = "<iq type='get' id='1'><q xmlns='u'>a&amp;<b/>c</q></iq> \n<a/></stream:stream>";
    let (all, end) = read_all(&format!("{HEADER}{stanzas}"));
    assert_eq!((all.len(), end.as_str()), (2, "the server closed the stream"));
    assert!(all[0].is("iq", NS_CLIENT));
    assert_eq!(all[0].get_child("q", "u").unwrap().text(), "a&c");
}

#[test]
fn reads_may_be_cut_anywhere() {
    let value = "v".repeat(crate::xmpp::guard::MAX_VALUE);
    let text = format!("{HEADER}<m a='{value}'>{}\u{1F600}</m><m/>", "\u{e9}&amp;".repeat(10_000));
    for size in [1, 2, 3, 7, 8191, 8192, 8193] {
        let (io, mut peer) = tokio::io::duplex(size);
        let ((all, _), ()) = run(async {
            let server = async {
                peer.write_all(text.as_bytes()).await.unwrap();
                peer.shutdown().await.unwrap();
            };
            let client = elements(tokio::io::join(io, tokio::io::sink()));
            tokio::join!(client, server)
        });
        assert_eq!(all.len(), 2, "{size}");
        assert_eq!(all[0].attr("a"), Some(value.as_str()));
        assert_eq!(all[0].text().chars().count(), 20_001);
    }
}

#[test]
fn other_protocols_are_not_well_formed() {
    for banner in
        ["SSH-2.0-OpenSSH_9\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "* OK IMAP\r\n", "\x15\x03\x01", "&amp;"]
    {
        let (_, end) = read_all(banner);
        assert!(end.starts_with("what came is not well-formed: "), "{banner}: {end}");
    }
    assert_eq!(read_all(" \r\n").1, "the server closed the connection");
}

#[tokio::test]
async fn what_is_written_is_read_back_and_forbidden_characters_are_replaced_one_for_one() {
    let inner = Element::builder("x", "urn:x").append("t\u{1}\u{fffe}<>&'\"\r\n\u{1F600}").build();
    let mut stanza = Element::builder("message", NS_CLIENT).append(inner).append(Element::bare("y", "urn:y")).build();
    stanza.set_attr(rxml::Namespace::XML, NcName::try_from("lang").unwrap(), "de\u{b}");
    stanza.set_attr(rxml::Namespace::from_str("urn:y"), NcName::try_from("z").unwrap(), "a\nb\t");
    let (io, mut peer) = tokio::io::duplex(64 * 1024);
    peer.write_all(HEADER.as_bytes()).await.unwrap();
    let mut stream = open(io).await.unwrap();
    futures::SinkExt::send(&mut stream, &Outgoing(&stanza)).await.unwrap();
    stream.get_stream().part(Parting::End);
    stream.shutdown().await.unwrap();
    let mut written = String::new();
    peer.read_to_string(&mut written).await.unwrap();
    assert!(written.contains("<y xmlns='urn:y'/></message>"), "the short form: {written}");
    let (all, end) = elements(tokio::io::join(written.as_bytes(), tokio::io::sink())).await;
    assert_eq!((all.len(), end.as_str()), (1, "the server closed the stream"));
    assert_eq!(all[0].children().next().unwrap().text(), "t\u{fffd}\u{fffd}<>&'\"\r\n\u{1F600}");
    assert_eq!(all[0].attr_ns("urn:y", "z"), Some("a\nb\t"));
    assert_eq!(all[0].attr_ns(rxml::parser::XMLNS_XML, "lang"), Some("de\u{fffd}"));
}

#[tokio::test]
async fn each_parting_leaves_what_it_should() {
    for (parting, last) in
        [(Parting::Suspend, ""), (Parting::End, "</stream:stream>"), (Parting::Wait, "</stream:stream>")]
    {
        let (io, mut peer) = tokio::io::duplex(64 * 1024);
        peer.write_all(HEADER.as_bytes()).await.unwrap();
        let mut stream = open(io).await.unwrap();
        stream.get_stream().part(parting);
        stream.shutdown().await.unwrap();
        if parting == Parting::Wait {
            // Our half is ended, and the server's may still come; only then the connection goes.
            peer.write_all(b"<a/></stream:stream>").await.unwrap();
            assert!(stream.next().await.unwrap().is_ok());
            assert!(matches!(stream.next().await, Some(Err(ReadError::StreamFooterReceived))));
            let mut before = vec![0; 4096];
            let n = peer.read(&mut before).await.unwrap();
            assert!(before[..n].ends_with(last.as_bytes()));
            assert!(futures::FutureExt::now_or_never(peer.read(&mut before)).is_none(), "the connection is open");
            stream.get_stream().part(Parting::End);
            stream.shutdown().await.unwrap();
            assert_eq!(peer.read(&mut before).await.unwrap(), 0);
            continue;
        }
        let mut written = String::new();
        peer.read_to_string(&mut written).await.unwrap();
        assert!(written.ends_with(&format!("version='1.0'>{last}")), "{parting:?}: {written}");
    }
}

#[tokio::test]
async fn an_idle_transport_holds_no_buffer() {
    let (io, mut peer) = tokio::io::duplex(64 * 1024);
    peer.write_all(format!("{HEADER}<a>{}</a>", "x".repeat(20_000)).as_bytes()).await.unwrap();
    let mut stream = open(io).await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    assert!(futures::FutureExt::now_or_never(stream.next()).is_none());
    assert_eq!(stream.get_stream().passed.capacity(), 0);
}
