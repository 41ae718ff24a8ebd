//! Tests of the guard: whatever comes, and however it is cut into reads, the stream goes on.

use proptest::prelude::*;

use super::super::transport::tests::{HEADER, read_all};
use super::*;

fn passed(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Guard::default().feed(input, &mut out);
    out
}

/// What a stream that holds `stanzas` is read as; the last must be the marker that every test appends.
fn read(stanzas: &str) -> Vec<minidom::Element> {
    let (mut elements, end) = read_all(&format!("{HEADER}{stanzas}<marker/>"));
    assert_eq!(end, "the server closed the connection");
    assert!(elements.pop().is_some_and(|e| e.name() == "marker"), "the stream did not go on");
    elements
}

#[test]
fn what_is_within_bounds_passes_unchanged() {
    for text in [
        "<message to='a@b' type=\"chat\"><body>5 &gt; 4 &amp; \u{1F600} &#x1F600; ' \" &#233;</body><x xmlns='jabber:x:oob'/></message>",
        "<iq id='it&apos;s > fine'/>",
        "<a:b xmlns:a='u' a:c='d' xml:lang='en'>]] ></a:b>",
    ] {
        let input = format!("{HEADER}{text} \n");
        assert_eq!(String::from_utf8(passed(input.as_bytes())).unwrap(), input);
    }
}

#[test]
fn an_attribute_of_100_kilobytes_is_dropped_and_its_stanza_delivered() {
    let huge = "x".repeat(100_000);
    let all = read(&format!("<message a='{huge}' to='b'><body c=\"{huge}\">hi</body></message><message to='d'/>"));
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].attr("a"), all[0].attr("to")), (None, Some("b")));
    assert_eq!(all[0].children().next().unwrap().text(), "hi");
    assert_eq!(all[1].attr("to"), Some("d"));
}

#[test]
fn an_over_long_namespace_stays_declared() {
    let huge = "u".repeat(40_000);
    let all = read(&format!("<message xmlns:a='{huge}' xmlns:b='{huge}1' a:x='1' b:x='2'><a:y/></message>"));
    assert_eq!(all[0].children().count(), 1);
}

#[test]
fn an_over_size_stanza_is_cut_between_characters_and_closes() {
    // Each offset puts another byte of a four-byte character at the bound.
    for offset in 0..4 {
        let body = format!("{}{}", "a".repeat(offset), "\u{1F600}".repeat(MAX_STANZA / 4 + 10));
        let all =
            read(&format!("<message to='b'><body>{body}</body><gone/></message><message to='d'><kept/></message>"));
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].children().count(), 1);
        assert!(body.starts_with(&all[0].children().next().unwrap().text()));
        assert_eq!(all[1].children().count(), 1, "the next stanza is whole");
    }
}

#[test]
fn too_deep_too_many_and_too_long_parts_are_dropped() {
    let deep = format!("<message>{}{}</message>", "<a>".repeat(1000), "</a>".repeat(1000));
    assert_eq!(read(&deep).len(), 1);
    let many: String = (0..1000).fold(String::new(), |all, n| all + &format!(" p:a{n}='v'"));
    let all = read(&format!("<message id='1'{many} xmlns:p='u'><body>x</body></message><message id='2'/>"));
    assert_eq!((all[0].attr("id"), all[0].children().count()), (Some("1"), 0), "counted, but bare");
    assert_eq!(all[1].attr("id"), Some("2"));
    let all = read(&format!("<message><body{many} xmlns:p='u'>x</body><kept/></message>"));
    assert_eq!(all[0].children().map(minidom::Element::name).collect::<Vec<_>>(), ["kept"]);
    let long = "n".repeat(9000);
    let all = read(&format!("<message {long}='1'><{long}><b/></{long}><{long}/><kept/></message>"));
    assert_eq!(all[0].children().map(minidom::Element::name).collect::<Vec<_>>(), ["kept"]);
}

#[test]
fn comments_instructions_and_declarations_are_cut_and_references_neutralised() {
    let all = read(
        "<message a='&nbsp;&#0;&#x41;x&y'><!-- - -- <b> --><?php echo ?><body>&e;&#xFFFE;&lt;a&b &amp;&unknownandverylongreference;\
         <![CDATA[<i>&amp;]]]]></body><!DOCTYPE x [<!ENTITY a 'b'>]></message>",
    );
    assert_eq!(all[0].attr("a"), Some("\u{fffd}\u{fffd}Ax&y"));
    assert_eq!(
        all[0].children().next().unwrap().text(),
        "\u{fffd}\u{fffd}<a&b &&unknownandverylongreference;<i>&amp;]]"
    );
    assert_eq!(all[0].children().count(), 1);
}

#[test]
fn control_characters_are_replaced() {
    let all = read("<message a='\u{1}'><body>a\u{8}b\tc</body></message>");
    assert_eq!(all[0].attr("a"), Some("\u{fffd}"));
    assert_eq!(all[0].children().next().unwrap().text(), "a\u{fffd}b\tc");
}

#[test]
fn cuts_are_counted() {
    let mut guard = Guard::default();
    let mut out = Vec::new();
    guard.feed(format!("{HEADER}<a b='{}'/><!-- c -->", "x".repeat(MAX_VALUE + 1)).as_bytes(), &mut out);
    assert_eq!(guard.cuts(), 2);
    // Only the start of an element can be waited for, never its content.
    guard.feed("<m>".repeat(10_000).as_bytes(), &mut out);
    assert!(guard.tag.attributes.capacity() <= MAX_TAG);
}

#[test]
fn markup_that_is_no_xml_is_left_to_the_parser_to_refuse() {
    for text in ["< a/>", "<a b/>", "<a / >", "<a b='c' ='d'/>", "<a><b></a>"] {
        let (_, end) = read_all(&format!("{HEADER}{text}"));
        assert!(end.starts_with("what came is not well-formed: "), "{text}: {end}");
    }
}

fn piece() -> impl Strategy<Value = String> {
    let huge = MAX_VALUE + 1;
    prop_oneof![
        4 => "[a-z \u{e9}\u{1F600}]{0,12}",
        1 => Just("&amp;&#65;&bogus;& ".to_owned()),
        1 => Just("<![CDATA[ <x> ]] ]]>".to_owned()),
        1 => Just("<!-- -> -->".to_owned()),
        1 => Just("<?pi a='>'?>".to_owned()),
        1 => Just("<a b='c' d = \"e'&lt;&q;\" />".to_owned()),
        1 => Just("<a><b>x</b></a >".to_owned()),
        1 => Just(format!("<a l='{}' m='1'/>", "v".repeat(huge))),
    ]
}

#[test]
fn names_and_values_pass_up_to_what_the_parser_takes() {
    // Exactly so long, as bytes, as references, and as characters of several bytes.
    let values = [
        "x".repeat(MAX_VALUE),
        format!("{}&#10;", "&amp;".repeat(MAX_VALUE / 5 - 1)),
        "\u{1F600}".repeat(MAX_VALUE / 4),
    ];
    for value in values {
        let all = read(&format!("<message a='{value}' b='{value}x&#120;xx'><c d=\"{value}\"/></message>"));
        let expected: usize = if value.starts_with('&') { MAX_VALUE / 5 } else { value.len() };
        assert_eq!(all[0].attr("a").map(str::len), Some(expected));
        assert_eq!(all[0].attr("b"), None);
        assert_eq!(all[0].children().next().unwrap().attr("d").map(str::len), Some(expected));
    }
    let name = "n".repeat(MAX_NAME - 1);
    let all = read(&format!("<message {name}='1'><{name}/><{name}n/></message>"));
    assert_eq!((all[0].attr(name.as_str()), all[0].children().count()), (Some("1"), 1));
}

/// The bounds stand on this: if the parser's own changes, so may they.
#[test]
fn the_parser_ends_a_stream_at_a_longer_token_and_only_there() {
    use rxml::{Parse, Parser, error::EndOrError};
    let parse = |text: String| {
        let (mut parser, mut rest) = (Parser::default(), text.as_bytes());
        loop {
            match parser.parse(&mut rest, false) {
                Ok(_) => {}
                Err(EndOrError::NeedMoreData) => return Ok(()),
                Err(EndOrError::Error(error)) => return Err(error.to_string()),
            }
        }
    };
    let token = |length: usize| "x".repeat(length);
    for (before, after) in [("<a b='", "'>"), ("<a ", "='b'>"), ("<", ">"), ("<a b='&#120;&#120;", "'>")] {
        let decoded = 2 * usize::from(before.contains('&'));
        assert_eq!(parse(format!("{before}{}{after}", token(MAX_TOKEN - decoded))), Ok(()), "{before}");
        let over = parse(format!("{before}{}{after}", token(MAX_TOKEN - decoded + 1))).unwrap_err();
        assert_eq!(over, "restricted xml: long name or reference", "{before}");
    }
    let tag: String = (0..MAX_ATTRIBUTES).map(|n| format!(" a{n}='{}'", token(MAX_TOKEN))).collect();
    assert_eq!(parse(format!("<a{tag}>{}<b>", token(100 * MAX_TOKEN))), Ok(()));
}

#[test]
fn a_header_is_brought_into_the_form_that_the_library_takes() {
    let ns = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'";
    let huge = "x".repeat(MAX_VALUE + 1);
    for attributes in [
        String::new(),
        "version='1.0'".to_owned(),
        "version='1.1' xmlns:x='u' x:y='z' stream:to='h' lang='en' xml:lang='de' xml:base='b'".to_owned(),
        format!("version='{huge}' from='{huge}' id='i'"),
        (0..2 * MAX_ATTRIBUTES).map(|n| format!(" a{n}='v'")).collect(),
    ] {
        let (elements, _) = read_all(&format!(" \n<?xml version='1.0'?>\n<stream:stream {attributes} {ns}><a/>"));
        assert_eq!(elements.len(), 1, "{attributes}");
    }
}

#[test]
fn only_white_space_passes_between_stanzas() {
    let all = read("\n<a/> \u{e9} text &amp; &#x41;&bogus; \u{1} <![CDATA[ t ]]> \r\n<b>text</b>\t");
    assert_eq!(all.iter().map(minidom::Element::name).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(all[1].text(), "text");
    let mut guard = Guard::default();
    guard.feed(format!("{HEADER} \n<a/>\t").as_bytes(), &mut Vec::new());
    assert_eq!(guard.cuts(), 0);
    guard.feed(b"text", &mut Vec::new());
    assert_eq!(guard.cuts(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn reads_may_be_cut_anywhere_and_the_output_parses(pieces in prop::collection::vec(piece(), 0..8), step in 1usize..50) {
        let input = format!("{HEADER}<message id='1'>{}</message>", pieces.concat());
        let whole = passed(input.as_bytes());
        let mut cut = Vec::new();
        let mut guard = Guard::default();
        for part in input.as_bytes().chunks(step) {
            guard.feed(part, &mut cut);
        }
        prop_assert_eq!(&whole, &cut);
        prop_assert_eq!(read(&input[HEADER.len()..]).len(), 1);
    }

    #[test]
    fn every_single_split_gives_the_same(pieces in prop::collection::vec("[a-z<>&;'/!\\[\\]-]{0,6}", 0..6)) {
        let input = format!("{HEADER}<m a='b'>{}", pieces.concat());
        let whole = passed(input.as_bytes());
        for at in 0..input.len() {
            let mut out = Vec::new();
            let mut guard = Guard::default();
            guard.feed(&input.as_bytes()[..at], &mut out);
            guard.feed(&input.as_bytes()[at..], &mut out);
            prop_assert_eq!(&whole, &out);
        }
    }
}
