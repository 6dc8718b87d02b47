//! The two streams: however they are cut, they are read the same, and nothing that comes harms.
#![cfg(test)]

use bytes::{Bytes, BytesMut};
use fallible_iterator::FallibleIterator as _;
use halligan_protocol_postgres::codec::{
    AuthenticationRequest, ClientScanner, CodecError, First, FromClientMessage, FromServerMessage, NotKept,
    Piece, ServerScanner, Severity, TransactionStatus, Version, Writer, exercise, negotiate, read_first,
    rows_of_tag,
};
use postgres_protocol::IsNull;
use postgres_protocol::message::{backend, frontend};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// Messages as a client library of others writes them, behind a startup packet.
fn client_message() -> impl Strategy<Value = Vec<u8>> {
    let written = |write: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        write(&mut out);
        out.to_vec()
    };
    let text = || "[a-z '$1;]{0,40}";
    prop_oneof![
        text().prop_map(move |sql| written(&|out| frontend::query(&sql, out).unwrap())),
        (text(), prop::collection::vec(any::<u32>(), 0..4)).prop_map(move |(sql, types)| written(&|out| {
            frontend::parse(&sql, &sql, types.clone(), out).unwrap()
        })),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5).prop_map(move |values| {
            written(&|out| {
                let write = |value: &Vec<u8>, out: &mut BytesMut| {
                    if value.len() % 3 == 1 {
                        return Ok(IsNull::Yes);
                    }
                    out.extend_from_slice(value);
                    Ok(IsNull::No)
                };
                let _ = frontend::bind("p", "s", [1], values.iter(), write, [0], out);
            })
        }),
        Just(written(&|out| frontend::execute("p", 7, out).unwrap())),
        Just(written(&|out| frontend::describe(b'S', "s", out).unwrap())),
        Just(written(&|out| frontend::close(b'P', "p", out).unwrap())),
        Just(written(&|out| frontend::sync(out))),
        Just(written(&|out| frontend::flush(out))),
        Just(written(&|out| frontend::copy_done(out))),
        Just(written(&|out| frontend::copy_fail("no", out).unwrap())),
        prop::collection::vec(any::<u8>(), 0..9000).prop_map(|data| frame(b'd', &data)),
    ]
}

fn server_message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 2..600).prop_map(|row| frame(b'D', &row)),
        1 => prop::collection::vec(any::<u8>(), 0..9000).prop_map(|data| frame(b'd', &data)),
        1 => "[A-Z]{1,8} [0-9]{1,4}\0".prop_map(|tag| frame(b'C', tag.as_bytes())),
        1 => Just(frame(b'Z', b"T")),
        1 => Just(frame(b'T', b"\0\x01name\0\0\0\0\x05\0\x01\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0")),
        1 => "[a-z ]{0,90}".prop_map(|text| frame(b'N', format!("SWARNING\0C01000\0M{text}\0\0").as_bytes())),
        1 => Just([frame(b'1', b""), frame(b'2', b""), frame(b'n', b""), frame(b's', b"")].concat()),
        1 => Just(frame(b'G', b"\0\0\x02\0\0\0\0")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_clients_stream_is_read_the_same_however_it_is_cut(
        messages in prop::collection::vec(client_message(), 0..20),
        cuts in prop::collection::vec(any::<u8>(), 1..6),
    ) {
        let mut stream = BytesMut::new();
        frontend::startup_message([("user", "a")], &mut stream).unwrap();
        let mut stream = stream.to_vec();
        messages.iter().for_each(|message| stream.extend_from_slice(message));
        let whole = exercise::client(&stream, &[]).unwrap();
        prop_assert_eq!(&whole.error, &None);
        prop_assert_eq!(&exercise::client(&stream, &cuts).unwrap(), &whole);
        prop_assert_eq!(&exercise::client(&stream, &[0]).unwrap(), &whole);
    }

    #[test]
    fn a_servers_stream_is_read_the_same_however_it_is_cut_and_as_others_read_it(
        messages in prop::collection::vec(server_message(), 0..30),
        cuts in prop::collection::vec(any::<u8>(), 1..6),
    ) {
        let stream = messages.concat();
        let whole = exercise::server(&stream, &[]).unwrap();
        prop_assert_eq!(&whole.error, &None);
        prop_assert_eq!(&exercise::server(&stream, &cuts).unwrap(), &whole);
        prop_assert_eq!(&exercise::server(&stream, &[0]).unwrap(), &whole);
        // The oracle: the client library of others counts and reads the same.
        let (mut theirs, mut rows, mut copied) = (BytesMut::from(&stream[..]), 0, Vec::new());
        while let Some(message) = backend::Message::parse(&mut theirs).unwrap() {
            match message {
                backend::Message::DataRow(_) => rows += 1,
                backend::Message::CopyData(data) => copied.extend_from_slice(data.data()),
                backend::Message::CommandComplete(body) => {
                    let tag = format!("CommandComplete {{ tag: b{:?} }}", body.tag().unwrap());
                    prop_assert!(whole.pieces.iter().any(|piece| piece.starts_with(&tag)), "{}", tag);
                }
                backend::Message::NoticeResponse(body) => {
                    let said = body.fields().find(|field| Ok(field.type_() == b'M')).unwrap().unwrap();
                    let said = format!("message: {:?}", std::str::from_utf8(said.value_bytes()).unwrap());
                    prop_assert!(whole.pieces.iter().any(|piece| piece.contains(&said)), "{}", said);
                }
                _ => {}
            }
        }
        prop_assert_eq!(rows, whole.rows);
        prop_assert_eq!(copied, whole.copied);
    }

    #[test]
    fn any_bytes_are_read_the_same_however_they_are_cut(
        data in prop::collection::vec(any::<u8>(), 0..400),
        cuts in prop::collection::vec(any::<u8>(), 1..6),
    ) {
        for whole in [exercise::client, exercise::server] {
            let all = whole(&data, &[]).unwrap();
            let pieces = whole(&data, &cuts).unwrap();
            prop_assert_eq!(all.error, pieces.error);
        }
    }
}

/// The fuzz targets' own entries, with seeded noise of every kind of message.
#[test]
fn seeded_noise_harms_neither_direction() {
    let mut random = ChaCha8Rng::seed_from_u64(20_261_122);
    let kinds = b"QPBEDCFHSXcdfpRKSvTDCIsENZ123ntAGHWV";
    for _ in 0..20_000 {
        let mut data = Vec::new();
        if random.random_bool(0.5) {
            data.extend_from_slice(&[0, 0, 0, 9, 0, 3, 0, 0, 0]);
        }
        for _ in 0..random.random_range(0..6) {
            let mut body = vec![0; random.random_range(0..80)];
            random.fill_bytes(&mut body);
            body.iter_mut().for_each(|byte| {
                if *byte > 128 {
                    *byte = 0
                }
            });
            let mut message = frame(kinds[random.random_range(0..kinds.len())], &body);
            if random.random_bool(0.1) {
                let at = random.random_range(0..5);
                message[at] = random.random();
            }
            data.extend_from_slice(&message);
        }
        let cuts = [random.random(), random.random_range(0..9)];
        exercise::client(&data, &cuts).unwrap();
        exercise::server(&data, &cuts).unwrap();
    }
}

fn first(bytes: &[u8]) -> Result<Option<First>, CodecError> {
    read_first(&mut BytesMut::from(bytes))
}

#[test]
fn first_packets_are_told_apart_and_nothing_may_follow_in_clear() {
    let mut out = BytesMut::new();
    Writer(&mut out).ssl_request();
    assert_eq!(first(&out), Ok(Some(First::SslRequest)));
    assert_eq!(first(&out[..7]), Ok(None));
    out.extend_from_slice(b"Q");
    assert_eq!(first(&out), Err(CodecError::Surplus { bytes: 1 }));
    assert_eq!(first(&[0, 0, 0, 8, 4, 210, 22, 48]), Ok(Some(First::GssencRequest)));
    assert_eq!(first(&[0x16, 3, 1]), Ok(Some(First::Tls)));
    for key in [vec![1; 4], vec![2; 256]] {
        let mut out = BytesMut::new();
        Writer(&mut out).cancel_request(9, &key);
        assert_eq!(first(&out), Ok(Some(First::Cancel { process: 9, key: key.into() })));
    }
    let mut out = BytesMut::new();
    Writer(&mut out).cancel_request(9, &[0; 257]);
    assert!(first(&out).is_err());
    for length in [-1_i32, 0, 3, 7, 10_001, i32::MAX] {
        let error = first(&length.to_be_bytes()).unwrap_err();
        assert!(matches!(error, CodecError::FirstLength { .. }), "{length}: {error}");
    }
    assert_eq!(first(b"\0\0\0\x09\0\x02\0\0\0"), Err(CodecError::Version { major: 2, minor: 0 }));
    assert!(first(b"\0\0\0\x0a\0\x03\0\0\0x").is_err(), "something behind the end");
    assert!(first(b"\0\0\0\x0a\0\x03\0\0ab").is_err(), "no end");
}

#[test]
fn versions_are_settled_and_unknown_options_told() {
    let startup = |minor, parameters: &[(&str, &str)]| {
        let mut out = BytesMut::new();
        Writer(&mut out).startup(Version { major: 3, minor }, parameters);
        match first(&out) {
            Ok(Some(First::Startup(startup))) => startup,
            other => panic!("{other:?}"),
        }
    };
    let twice = startup(0, &[("user", "a"), ("database", "b"), ("user", "c")]);
    assert_eq!(
        twice.parameter("user"),
        Some(&Bytes::from_static(b"c")),
        "the last one counts, as at the server"
    );
    assert_eq!(negotiate(&twice).tell, None);
    assert_eq!(negotiate(&startup(2, &[])).tell, None);
    for minor in [1, 3, 9999] {
        let negotiated = negotiate(&startup(minor, &[]));
        assert_eq!(negotiated.version, if minor == 1 { Version::V3_0 } else { Version::V3_2 });
        assert_eq!(negotiated.tell, Some(vec![]));
    }
    assert_eq!(
        negotiate(&startup(0, &[("_pq_.x", "1"), ("user", "a")])).tell,
        Some(vec![Bytes::from_static(b"_pq_.x")])
    );
}

fn client(bytes: &[u8]) -> Result<Option<Piece<FromClientMessage>>, CodecError> {
    let mut scanner = ClientScanner::new(1000);
    scanner.authenticated();
    scanner.next(&mut BytesMut::from(bytes), &mut NotKept)
}

#[test]
fn lengths_are_looked_at_before_anything_is_awaited() {
    for length in [0_u32, 3, 0x8000_0000, u32::MAX] {
        let bytes = [&b"Q"[..], &length.to_be_bytes()].concat();
        assert!(matches!(client(&bytes), Err(CodecError::Length { .. })), "{length}");
    }
    let said = client(b"Q\0\0\x04\0").unwrap_err().to_string();
    assert_eq!(said, "a message of kind 'Q' has 1020 bytes; at most 1000 are taken");
    // Before authentication: only its own messages, and short ones.
    let mut early = ClientScanner::new(1 << 24);
    let mut next = |bytes: &[u8]| early.next(&mut BytesMut::from(bytes), &mut NotKept);
    assert!(matches!(next(b"Q\0\0\0\x06x\0"), Err(CodecError::Unexpected { .. })));
    assert!(matches!(next(b"p\0\0\x27\x15"), Err(CodecError::TooLong { .. })));
    assert!(next(b"p\0\0\0\x06x\0").unwrap().is_some());
    let mut server = ServerScanner::new(1 << 24);
    assert!(server.next(&mut BytesMut::from(&b"D\0\0\0\x06x\0"[..]), &mut NotKept).is_err());
    assert!(server.next(&mut BytesMut::from(&b"E\0\0\x27\x15"[..]), &mut NotKept).is_err());
}

#[test]
fn what_the_other_end_would_read_otherwise_is_refused() {
    for bad in [
        &b"Q\0\0\0\x05x"[..],
        b"Q\0\0\0\x08a\0b\0",
        b"S\0\0\0\x05x",
        b"E\0\0\0\x07\0\0\0",
        b"D\0\0\0\x06X\0",
        b"B\0\0\0\x0c\0\0\0\0\0\x01\xff\xff",
        b"B\0\0\0\x10\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0",
        b"P\0\0\0\x08\0\0\xff\xff",
        b"Y\0\0\0\x04",
        b"W\0\0\0\x04",
    ] {
        assert!(client(bad).is_err(), "{bad:?}");
    }
}

/// A body that is only passed is never held: a gigabyte goes through a buffer of a few kilobytes.
#[test]
fn a_body_that_is_passed_is_not_held() {
    let mut scanner = ServerScanner::new(1000);
    scanner.authenticated();
    let mut buffer = BytesMut::from(&b"D\x40\0\0\0"[..]);
    let mut passed = 0_u64;
    let piece = [7; 8192];
    while passed < 5 + 0x4000_0000 - 4 {
        assert!(scanner.wants() <= 5);
        let Some(Piece::Pass(bytes)) = scanner.next(&mut buffer, &mut NotKept).unwrap() else {
            panic!("held")
        };
        passed += bytes.len() as u64;
        assert!(buffer.is_empty());
        let left = 1 + 0x4000_0000 - passed;
        buffer.extend_from_slice(&piece[..piece.len().min(left as usize)]);
    }
    assert!(scanner.at_boundary() || buffer.is_empty());
}

#[test]
fn a_long_error_is_read_as_far_as_it_matters_and_passed_whole() {
    let body = [&b"SERROR\0C22000\0M"[..], &vec![b'x'; 300_000], b"\0\0"].concat();
    let stream = [frame(b'E', &body), frame(b'Z', b"I")].concat();
    let seen = exercise::server(&stream, &[]).unwrap();
    assert_eq!((seen.error, seen.pieces.len()), (None, 3));
    assert!(seen.pieces[0].contains("22000"));
}

#[test]
fn what_we_write_is_what_others_read() {
    let mut out = BytesMut::new();
    Writer(&mut out)
        .authentication(AuthenticationRequest::Sasl { mechanisms: &["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"] })
        .authentication(AuthenticationRequest::SaslContinue { data: b"r=" })
        .authentication(AuthenticationRequest::SaslFinal { data: b"v=" })
        .authentication(AuthenticationRequest::Ok)
        .parameter_status(b"a", b"b")
        .backend_key_data(7, &[0, 0, 0, 9])
        .notice(Severity::Warning, "01000", "soon\0hidden")
        .error(Severity::Fatal, "57P01", "the grant has ended", Some("ask again"))
        .ready_for_query(TransactionStatus::Failed);
    let mine = exercise::server(&out, &[3]).unwrap();
    assert_eq!((mine.error, mine.pieces.len()), (None, 9));
    let mut next = || backend::Message::parse(&mut out).unwrap().unwrap();
    match next() {
        backend::Message::AuthenticationSasl(body) => {
            assert_eq!(
                body.mechanisms().collect::<Vec<_>>().unwrap(),
                ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]
            );
        }
        _ => panic!("no SASL"),
    }
    assert!(matches!(next(), backend::Message::AuthenticationSaslContinue(body) if body.data() == b"r="));
    assert!(matches!(next(), backend::Message::AuthenticationSaslFinal(body) if body.data() == b"v="));
    assert!(matches!(next(), backend::Message::AuthenticationOk));
    assert!(matches!(next(), backend::Message::ParameterStatus(body) if body.name().unwrap() == "a"));
    assert!(matches!(next(), backend::Message::BackendKeyData(_)));
    let fields = |message| match message {
        backend::Message::NoticeResponse(body) => {
            body.fields().map(|f| Ok((f.type_(), f.value_bytes().to_vec()))).collect::<Vec<_>>()
        }
        backend::Message::ErrorResponse(body) => {
            body.fields().map(|f| Ok((f.type_(), f.value_bytes().to_vec()))).collect::<Vec<_>>()
        }
        _ => panic!("nothing said"),
    };
    assert!(fields(next()).unwrap().contains(&(b'M', b"soon".to_vec())));
    let error = fields(next()).unwrap();
    assert!(error.contains(&(b'C', b"57P01".to_vec())) && error.contains(&(b'H', b"ask again".to_vec())));
    assert!(matches!(next(), backend::Message::ReadyForQuery(body) if body.status() == b'E'));
}

#[test]
fn tags_tell_rows() {
    for (tag, rows) in [
        ("SELECT 3", Some(3)),
        ("INSERT 0 2", Some(2)),
        ("COPY 5", Some(5)),
        ("BEGIN", None),
        ("CREATE TABLE", None),
        ("", None),
        ("SELECT -1", None),
        ("SELECT 99999999999999999999", None),
        ("7", None),
    ] {
        assert_eq!(rows_of_tag(tag.as_bytes()), rows, "{tag}");
    }
    let _ = FromServerMessage::EmptyQuery;
}
