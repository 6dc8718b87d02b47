//! All of these tests again, on servers of newer majors.

use halligan_testkit::postgres_programs::again_on;

#[test]
fn all_of_it_on_16() {
    again_on(16, &[], &["majors::"]).unwrap();
}

#[test]
fn all_of_it_on_17() {
    again_on(17, &[], &["majors::"]).unwrap();
}

#[test]
fn all_of_it_on_18() {
    again_on(18, &[], &["majors::"]).unwrap();
}
