//! The clients, the traps and the ends again, on servers of newer majors.

use halligan_testkit::postgres_programs::again_on;

const CORE: [&str; 7] = ["clients::", "drivers::", "newer::", "tools::", "ends::", "traps::", "holds::"];

#[test]
fn the_core_of_it_on_16() {
    again_on(16, &CORE, &["majors::"]).unwrap();
}

#[test]
fn the_core_of_it_on_17() {
    again_on(17, &CORE, &["majors::"]).unwrap();
}

#[test]
fn the_core_of_it_on_18() {
    again_on(18, &CORE, &["majors::"]).unwrap();
}
