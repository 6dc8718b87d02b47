//! Values in PostgreSQL's binary format (the `…send` functions of its sources).

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::civil::{Date, DateTime, date};
use jiff::{SignedDuration, Span};
use serde_json::Value;

use super::{hexed, oid, texted};

const MICROS_A_DAY: i64 = 86_400_000_000;
/// More dimensions no array has (MAXDIM), nor more elements one that is shown.
const MAX_DIMENSIONS: i32 = 6;
const MAX_ELEMENTS: usize = 1000;

/// `None` where the bytes are not of this type, or the type is not known.
pub fn decode(type_oid: u32, bytes: &[u8]) -> Option<Value> {
    Some(match type_oid {
        oid::BOOL => match bytes {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            _ => return None,
        },
        oid::INT2 => Value::from(i16::from_be_bytes(whole(bytes)?)),
        oid::INT4 => Value::from(i32::from_be_bytes(whole(bytes)?)),
        oid::INT8 => Value::from(i64::from_be_bytes(whole(bytes)?)),
        oid::OID => Value::from(u32::from_be_bytes(whole(bytes)?)),
        oid::FLOAT4 => {
            let number = f32::from_be_bytes(whole(bytes)?);
            // Through text: 0.1 stays 0.1, and does not become 0.10000000149011612.
            float(number.to_string())
        }
        oid::FLOAT8 => float(f64::from_be_bytes(whole(bytes)?).to_string()),
        oid::TEXT
        | oid::VARCHAR
        | oid::BPCHAR
        | oid::NAME
        | oid::CHAR
        | oid::UNKNOWN
        | oid::JSON
        | oid::XML => texted(std::str::from_utf8(bytes).ok()?),
        oid::JSONB => match bytes.split_first()? {
            (1, text) => texted(std::str::from_utf8(text).ok()?),
            _ => return None,
        },
        oid::BYTEA => hexed(bytes),
        oid::UUID => uuid(whole(bytes)?),
        oid::DATE => Value::from(day(i32::from_be_bytes(whole(bytes)?))),
        oid::TIME => Value::from(clock(i64::from_be_bytes(whole(bytes)?))),
        oid::TIMETZ => {
            let (time, zone) = bytes.split_first_chunk::<8>()?;
            let west = i32::from_be_bytes(whole(zone)?);
            let (sign, zone) = (if west > 0 { '-' } else { '+' }, west.unsigned_abs());
            let time = clock(i64::from_be_bytes(*time));
            Value::from(format!("{time}{sign}{:02}:{:02}", zone / 3600, zone / 60 % 60))
        }
        oid::TIMESTAMP => Value::from(moment(i64::from_be_bytes(whole(bytes)?), "")),
        oid::TIMESTAMPTZ => Value::from(moment(i64::from_be_bytes(whole(bytes)?), "+00")),
        oid::INTERVAL => {
            let (micros, rest) = bytes.split_first_chunk::<8>()?;
            let (days, months) = rest.split_first_chunk::<4>()?;
            let months = i32::from_be_bytes(whole(months)?);
            Value::from(interval(months, i32::from_be_bytes(*days), i64::from_be_bytes(*micros)))
        }
        oid::NUMERIC => Value::from(numeric(bytes)?),
        oid::INET | oid::CIDR => Value::from(network(bytes)?),
        array if oid::ARRAYS.contains(&array) => self::array(bytes)?,
        _ => return None,
    })
}

fn whole<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// JSON has no NaN and no infinity: those are text.
fn float(text: String) -> Value {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Value::from(number),
        _ => Value::from(text),
    }
}

fn uuid(bytes: [u8; 16]) -> Value {
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _infallible = write!(text, "{byte:02x}");
    }
    Value::from(text)
}

const EPOCH: Date = date(2000, 1, 1);

fn day(days: i32) -> String {
    match days {
        i32::MAX => "infinity".to_owned(),
        i32::MIN => "-infinity".to_owned(),
        _ => match Span::new().try_days(days).ok().and_then(|span| EPOCH.checked_add(span).ok()) {
            Some(day) => day.to_string(),
            None => format!("2000-01-01 and {days} days"),
        },
    }
}

fn clock(micros: i64) -> String {
    let (sign, micros) = if micros < 0 { ("-", micros.unsigned_abs()) } else { ("", micros.unsigned_abs()) };
    let seconds = micros / 1_000_000;
    let mut text = format!("{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if !micros.is_multiple_of(1_000_000) {
        let _infallible = write!(text, ".{:06}", micros % 1_000_000);
        text.truncate(text.trim_end_matches('0').len());
    }
    text
}

fn moment(micros: i64, zone: &str) -> String {
    match micros {
        i64::MAX => "infinity".to_owned(),
        i64::MIN => "-infinity".to_owned(),
        _ => {
            let since: Option<DateTime> = EPOCH
                .to_datetime(jiff::civil::Time::midnight())
                .checked_add(SignedDuration::from_micros(micros))
                .ok();
            match since {
                Some(then) => format!("{} {}{zone}", then.date(), clock(micros.rem_euclid(MICROS_A_DAY))),
                None => format!("2000-01-01 00:00:00{zone} and {micros} \u{b5}s"),
            }
        }
    }
}

/// As PostgreSQL's default style writes it.
fn interval(months: i32, days: i32, micros: i64) -> String {
    let mut parts = Vec::new();
    let (years, months) = (months / 12, months % 12);
    for (count, one, many) in [(years, "year", "years"), (months, "mon", "mons"), (days, "day", "days")] {
        if count != 0 {
            parts.push(format!("{count} {}", if count == 1 { one } else { many }));
        }
    }
    if micros != 0 || parts.is_empty() {
        parts.push(clock(micros));
    }
    parts.join(" ")
}

/// Groups of four decimal digits (src/backend/utils/adt/numeric.c).
fn numeric(bytes: &[u8]) -> Option<String> {
    let (head, digits) = bytes.split_first_chunk::<8>()?;
    let [count, weight, sign, scale] = [0, 2, 4, 6]
        .map(|at| head.get(at..at + 2).and_then(|two| two.try_into().ok()).map_or(0, u16::from_be_bytes));
    let weight = weight as i16;
    match sign {
        0xc000 => return Some("NaN".to_owned()),
        0xd000 => return Some("Infinity".to_owned()),
        0xf000 => return Some("-Infinity".to_owned()),
        0 | 0x4000 => {}
        _ => return None,
    }
    // `digits` is as long as it says, and both ends lie within what a numeric may have.
    if digits.len() != usize::from(count) * 2 || scale > 16_383 {
        return None;
    }
    let groups: Vec<u16> = digits.as_chunks::<2>().0.iter().map(|two| u16::from_be_bytes(*two)).collect();
    if groups.iter().any(|group| *group > 9999) {
        return None;
    }
    let group = |place: i32| {
        usize::try_from(i32::from(weight) - place).ok().and_then(|at| groups.get(at)).copied().unwrap_or(0)
    };
    let mut text = String::new();
    for place in (0..=i32::from(weight).max(0)).rev() {
        let _infallible = write!(text, "{:04}", group(place));
    }
    let mut text = text.trim_start_matches('0').to_owned();
    if text.is_empty() {
        text.push('0');
    }
    if scale > 0 {
        let mut fraction = String::new();
        for place in 1..=i32::from(scale).div_euclid(4) + 1 {
            let _infallible = write!(fraction, "{:04}", group(-place));
        }
        fraction.truncate(usize::from(scale));
        text = format!("{text}.{fraction}");
    }
    Some(if sign == 0x4000 { format!("-{text}") } else { text })
}

/// Family (2 or 3), bits, is-cidr, length, address.
fn network(bytes: &[u8]) -> Option<String> {
    let ([family, bits, is_cidr, _length], address) = bytes.split_first_chunk::<4>()?;
    let (address, all) = match family {
        2 => (IpAddr::from(Ipv4Addr::from(whole::<4>(address)?)), 32),
        3 => (IpAddr::from(Ipv6Addr::from(whole::<16>(address)?)), 128),
        _ => return None,
    };
    Some(if *bits == all && *is_cidr == 0 { address.to_string() } else { format!("{address}/{bits}") })
}

/// Dimensions, a flag, the elements' type, then length and lower bound of each, then the elements.
fn array(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let mut number = || -> Option<i32> {
        let (four, more) = rest.split_first_chunk::<4>()?;
        rest = more;
        Some(i32::from_be_bytes(*four))
    };
    let (dimensions, _has_nulls, element) = (number()?, number()?, number()? as u32);
    if !(0..=MAX_DIMENSIONS).contains(&dimensions) || oid::ARRAYS.contains(&element) {
        return None;
    }
    let mut sizes = Vec::new();
    for _ in 0..dimensions {
        sizes.push(usize::try_from(number()?).ok()?);
        let _lower = number()?;
    }
    let total = sizes.iter().try_fold(1_usize, |product, size| product.checked_mul(*size))?;
    if dimensions == 0 {
        return rest.is_empty().then(|| Value::Array(Vec::new()));
    }
    // Each element has at least its length: a size that cannot be true reserves nothing.
    if total > MAX_ELEMENTS || total > rest.len() / 4 {
        return None;
    }
    let mut values = Vec::new();
    for _ in 0..total {
        let (length, more) = rest.split_first_chunk::<4>()?;
        rest = more;
        match i32::from_be_bytes(*length) {
            -1 => values.push(Value::Null),
            length => {
                let (value, more) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                rest = more;
                values.push(decode(element, value).unwrap_or_else(|| hexed(value)));
            }
        }
    }
    if !rest.is_empty() {
        return None;
    }
    for size in sizes.iter().skip(1).rev() {
        values = values.chunks((*size).max(1)).map(|row| Value::Array(row.to_vec())).collect();
    }
    Some(Value::Array(values))
}
