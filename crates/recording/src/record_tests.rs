//! Records: their encoding goes both ways, and stays.

use super::*;
use proptest::prelude::*;

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Upload), Just(Direction::Download)]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        Just(Outcome::Done),
        any::<String>().prop_map(|reason| Outcome::Refused { reason }),
        any::<String>().prop_map(|reason| Outcome::Failed { reason }),
    ]
}

fn kind() -> impl Strategy<Value = RecordKind> {
    use RecordKind as K;
    let c = any::<u32>;
    let s = any::<String>;
    let h = || any::<[u8; 32]>().prop_map(Hash);
    prop_oneof![
        s().prop_map(|metadata| K::SessionStart { metadata }),
        (c(), bytes()).prop_map(|(channel, bytes)| K::Output { channel, bytes }),
        (c(), bytes()).prop_map(|(channel, bytes)| K::Stderr { channel, bytes }),
        (c(), bytes()).prop_map(|(channel, bytes)| K::Input { channel, bytes }),
        (c(), c(), c()).prop_map(|(channel, columns, rows)| K::Resize { channel, columns, rows }),
        (c(), s()).prop_map(|(channel, text)| K::Command { channel, text }),
        (c(), s()).prop_map(|(channel, kind)| K::ChannelOpen { channel, kind }),
        (c(), any::<Option<u32>>(), any::<Option<String>>())
            .prop_map(|(channel, exit_status, signal)| K::ChannelEnd { channel, exit_status, signal }),
        (c(), s(), direction()).prop_map(|(channel, path, direction)| K::TransferBegin {
            channel,
            path,
            direction
        }),
        (c(), s(), direction(), any::<u64>(), h(), outcome()).prop_map(
            |(channel, path, direction, bytes, sha256, outcome)| K::TransferEnd {
                channel,
                path,
                direction,
                bytes,
                sha256,
                outcome
            }
        ),
        (c(), s(), s(), any::<Option<String>>(), outcome()).prop_map(
            |(channel, op, path, path2, outcome)| { K::FileOp { channel, op, path, path2, outcome } }
        ),
        (c(), direction(), any::<u64>(), h()).prop_map(|(channel, direction, bytes, sha256)| K::Bulk {
            channel,
            direction,
            bytes,
            sha256
        }),
        (c(), direction(), bytes()).prop_map(|(channel, direction, bytes)| K::Content {
            channel,
            direction,
            bytes
        }),
        (c(), s(), any::<Option<String>>(), outcome(), any::<Option<u64>>(), any::<u64>()).prop_map(
            |(channel, text, parameters, outcome, rows, duration_micros)| K::Statement {
                channel,
                text,
                parameters,
                outcome,
                rows,
                duration_micros
            }
        ),
        (c(), any::<u64>(), bytes()).prop_map(|(channel, rows, bytes)| K::Rows { channel, rows, bytes }),
        (c(), any::<u64>(), any::<u64>(), s(), s()).prop_map(|(channel, number, rows, columns, values)| {
            K::Result { channel, number, rows, columns, values }
        }),
        s().prop_map(|text| K::Note { text }),
        s().prop_map(|reason| K::Gap { reason }),
        (c(), any::<u64>(), s(), s(), s(), s(), any::<Option<String>>()).prop_map(
            |(channel, number, class, role, database, text, parameters)| K::StatementBegin {
                channel,
                number,
                class,
                role,
                database,
                text,
                parameters
            }
        ),
        (c(), any::<u64>(), outcome(), s(), any::<Option<u64>>(), any::<u64>()).prop_map(
            |(channel, number, outcome, tag, rows, duration_micros)| K::StatementEnd {
                channel,
                number,
                outcome,
                tag,
                rows,
                duration_micros
            }
        ),
        (c(), s(), s(), s()).prop_map(|(channel, severity, code, text)| K::Notice {
            channel,
            severity,
            code,
            text
        }),
        (23_u8..=255, bytes()).prop_map(|(tag, body)| K::Unknown { tag, body }),
    ]
}

/// Any record but `End`, which only `finish` writes.
pub(crate) fn any_record() -> impl Strategy<Value = Record> {
    (any::<u64>(), kind()).prop_map(|(at_micros, kind)| Record { at_micros, kind })
}

proptest! {
    #[test]
    fn records_round_trip(records in proptest::collection::vec(any_record(), 0..20)) {
        let mut out = Vec::new();
        for record in &records {
            record.encode(&mut out).unwrap();
        }
        let mut input = Bytes::from(out);
        for record in &records {
            prop_assert_eq!(&Record::decode(&mut input).unwrap(), record);
        }
        prop_assert!(input.is_empty());
    }

    #[test]
    fn any_bytes_decode_to_a_record_or_an_error(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut raw = Bytes::from(body.clone());
        let _ = Record::decode(&mut raw);
        // With a fitting length in front the fields themselves are reached.
        let mut framed = vec![0, 0, body.len() as u8];
        framed.extend_from_slice(&body);
        if let Ok(record) = Record::decode(&mut Bytes::from(framed.clone())) {
            let mut again = Vec::new();
            record.encode(&mut again).unwrap();
            prop_assert_eq!(again, framed, "one record, one encoding");
        }
    }
}

#[test]
fn the_encoding_of_version_1_stays_as_it_is() {
    let record = Record::new(
        300,
        RecordKind::FileOp {
            channel: 2,
            op: "rename".into(),
            path: "/a".into(),
            path2: Some("/b".into()),
            outcome: Outcome::Refused { reason: "no".into() },
        },
    );
    let mut out = Vec::new();
    record.encode(&mut out).unwrap();
    assert_eq!(hex::encode(out), "0000160bac02020672656e616d65022f6101022f6201026e6f");
}

#[test]
fn the_encoding_of_statements_stays_as_it_is() {
    for (kind, encoded) in [
        (
            RecordKind::StatementBegin {
                channel: 1,
                number: 300,
                class: "read".into(),
                role: "r".into(),
                database: "d".into(),
                text: "select $1".into(),
                parameters: Some("[7]".into()),
            },
            "00001d130501ac020472656164017201640973656c65637420243101035b375d",
        ),
        (
            RecordKind::StatementEnd {
                channel: 1,
                number: 300,
                outcome: Outcome::Done,
                tag: "SELECT 1".into(),
                rows: Some(1),
                duration_micros: 128,
            },
            "000013140501ac02000853454c454354203101018001",
        ),
        (
            RecordKind::Notice {
                channel: 1,
                severity: "WARNING".into(),
                code: "01000".into(),
                text: "w".into(),
            },
            "000013150501075741524e494e470530313030300177",
        ),
    ] {
        let mut out = Vec::new();
        Record::new(5, kind).encode(&mut out).unwrap();
        assert_eq!(hex::encode(out), encoded);
    }
}

#[test]
fn a_record_that_is_too_long_is_refused_and_leaves_nothing_behind() {
    let record =
        Record::new(0, RecordKind::Output { channel: 0, bytes: vec![0; MAX_RECORD_BYTES + 1].into() });
    let mut out = vec![9];
    assert!(record.encode(&mut out).is_err());
    assert_eq!(out, [9]);
}
