//! What a client sends, cut as the first bytes say. The same entry is called with seeded noise by the tests.
#![no_main]

use halligan_protocol_postgres::codec::exercise;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (cuts, data) = data.split_at(data.len().min(4));
    if let Err(broken) = exercise::client(data, cuts) {
        panic!("{broken}");
    }
});
