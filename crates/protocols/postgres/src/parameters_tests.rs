use super::*;
use bytes::{Bytes, BytesMut};
use postgres_protocol::types;
use proptest::prelude::*;

fn binary(type_oid: u32, bytes: &[u8]) -> Value {
    decode(type_oid, Format::Binary, Some(bytes))
}

/// Bytes as PostgreSQL's own client library writes them.
fn written(write: impl FnOnce(&mut BytesMut)) -> BytesMut {
    let mut out = BytesMut::new();
    write(&mut out);
    out
}

proptest! {
    #[test]
    fn what_the_client_library_writes_is_read(a in any::<i64>(), b in any::<f64>(), c in any::<f32>(), d in any::<bool>(), e in any::<[u8; 16]>()) {
        prop_assert_eq!(binary(oid::INT8, &written(|out| types::int8_to_sql(a, out))), json!(a));
        prop_assert_eq!(binary(oid::INT4, &written(|out| types::int4_to_sql(a as i32, out))), json!(a as i32));
        prop_assert_eq!(binary(oid::INT2, &written(|out| types::int2_to_sql(a as i16, out))), json!(a as i16));
        prop_assert_eq!(binary(oid::OID, &written(|out| types::oid_to_sql(a as u32, out))), json!(a as u32));
        prop_assert_eq!(binary(oid::BOOL, &written(|out| types::bool_to_sql(d, out))), json!(d));
        let float = binary(oid::FLOAT8, &written(|out| types::float8_to_sql(b, out)));
        prop_assert_eq!(float.as_f64(), b.is_finite().then_some(b));
        let float = binary(oid::FLOAT4, &written(|out| types::float4_to_sql(c, out)));
        prop_assert_eq!(float.as_f64().map(|read| read as f32), c.is_finite().then_some(c));
        let uuid = binary(oid::UUID, &written(|out| types::uuid_to_sql(e, out)));
        prop_assert_eq!(uuid.as_str().unwrap().replace('-', ""), hex::encode(e));
    }

    #[test]
    fn any_bytes_of_any_type_are_shown_somehow(type_oid in 0_u32..4000, bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = binary(type_oid, &bytes);
        let _ = decode(type_oid, Format::Text, Some(&bytes));
        for array in oid::ARRAYS {
            let _ = binary(*array, &bytes);
        }
        for known in [oid::NUMERIC, oid::INTERVAL, oid::TIMETZ, oid::INET, oid::DATE, oid::TIMESTAMP] {
            let _ = binary(known, &bytes);
        }
    }

    #[test]
    fn arrays_are_read_as_they_were_written(elements in prop::collection::vec(any::<Option<i32>>(), 1..20)) {
        let bytes = written(|out| {
            let one = [types::ArrayDimension { len: elements.len() as i32, lower_bound: 1 }];
            types::array_to_sql(one, oid::INT4, elements.iter(), |element, out| {
                Ok(match element {
                    Some(number) => {
                        types::int4_to_sql(*number, out);
                        postgres_protocol::IsNull::No
                    }
                    None => postgres_protocol::IsNull::Yes,
                })
            }, out).unwrap();
        });
        prop_assert_eq!(binary(1007, &bytes), json!(elements));
    }
}

#[test]
fn times_networks_and_numbers_read_as_the_server_writes_them() {
    // What psql shows for the same bytes.
    for (type_oid, bytes, shown) in [
        (oid::DATE, written(|out| types::date_to_sql(8_766, out)), "2024-01-01"),
        (oid::DATE, written(|out| types::date_to_sql(-1, out)), "1999-12-31"),
        (oid::DATE, written(|out| types::date_to_sql(i32::MAX, out)), "infinity"),
        (oid::TIME, written(|out| types::time_to_sql(3_723_500_000, out)), "01:02:03.5"),
        (oid::TIMESTAMP, written(|out| types::timestamp_to_sql(-1, out)), "1999-12-31 23:59:59.999999"),
        (oid::TIMESTAMPTZ, written(|out| types::timestamp_to_sql(0, out)), "2000-01-01 00:00:00+00"),
        (oid::TIMESTAMPTZ, written(|out| types::timestamp_to_sql(i64::MIN, out)), "-infinity"),
        (oid::TEXT, written(|out| types::text_to_sql("caf\u{e9}", out)), "caf\u{e9}"),
        (oid::INET, written(|out| types::inet_to_sql([10, 0, 0, 1].into(), 32, out)), "10.0.0.1"),
        (oid::INET, written(|out| types::inet_to_sql([10, 0, 0, 1].into(), 8, out)), "10.0.0.1/8"),
        (
            oid::INTERVAL,
            BytesMut::from(&hex::decode("00000000dde2b5800000000300000e02").unwrap()[..]),
            "298 years 10 mons 3 days 01:02:02.622336",
        ),
        (
            oid::NUMERIC,
            BytesMut::from(&hex::decode("000300014000000300010929138c").unwrap()[..]),
            "-12345.500",
        ),
        (oid::NUMERIC, BytesMut::from(&hex::decode("0001ffff0000000204d2").unwrap()[..]), "0.12"),
        (oid::NUMERIC, BytesMut::from(&hex::decode("0000000000000000").unwrap()[..]), "0"),
        (oid::NUMERIC, BytesMut::from(&hex::decode("00010002000000000001").unwrap()[..]), "100000000"),
        (oid::NUMERIC, BytesMut::from(&hex::decode("00000000c0000000").unwrap()[..]), "NaN"),
        (oid::JSONB, BytesMut::from(&b"\x01{\"a\": 1.0}"[..]), "{\"a\": 1.0}"),
        (oid::BYTEA, BytesMut::from(&b"\x00\xff"[..]), "\\x00ff"),
        (99_999, BytesMut::from(&b"\x01"[..]), "\\x01"),
    ] {
        assert_eq!(binary(type_oid, &bytes), json!(shown), "{type_oid} {bytes:?}");
    }
}

#[test]
fn a_bind_becomes_an_array_with_formats_cuts_and_masks() {
    let bind = |parameter_formats: Vec<i16>, parameters: Vec<Option<Bytes>>| Bind {
        portal: Bytes::new(),
        statement: Bytes::new(),
        parameter_formats,
        parameters,
        result_formats: Vec::new(),
    };
    let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    let values = vec![
        text("42"),
        None,
        text("007"),
        text("t"),
        Some(Bytes::from_static(&[0, 0, 0, 7])),
        text("s3cret"),
    ];
    let types = [oid::INT4, oid::INT4, oid::INT4, oid::BOOL, oid::INT4, oid::TEXT];
    assert_eq!(
        to_json(&bind(vec![0, 0, 0, 0, 1, 0], values.clone()), &types, &[6]),
        r#"[42,null,"007",true,7,"***"]"#
    );
    assert_eq!(
        to_json(&bind(vec![], values), &[], &[6]),
        r#"["42",null,"007","t","\u0000\u0000\u0000\u0007","***"]"#
    );
    let long = to_json(&bind(vec![1], vec![Some(Bytes::from(vec![0xab; 1000]))]), &[oid::BYTEA], &[]);
    assert!(long.contains(r#""bytes":1000"#) && long.contains("sha256") && long.len() < 1000, "{long}");
    let many = bind(vec![], vec![text("x"); 65_535]);
    assert!(to_json(&many, &[], &[]).len() < 512 * 1024);
}
