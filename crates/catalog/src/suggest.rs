//! "Did you mean …?"

/// The word that `given` was most likely meant to be, if any is near enough.
pub(crate) fn nearest<'a>(given: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given: String = given.chars().take(64).collect::<String>().to_lowercase().replace('-', "_");
    let most = given.chars().count().div_ceil(3).max(1);
    words
        .into_iter()
        .map(|word| (distance(&given, &word.to_lowercase().replace('-', "_")), word))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, word)| word)
}

/// Edit distance with neighbours swapped as one edit (optimal string alignment).
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().take(128).collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let swap = i > 0 && j > 0 && one.get(i - 1) == Some(b) && other.get(j - 1) == Some(a);
            let swapped = if swap { at(&before, j - 1) + 1 } else { usize::MAX / 2 };
            let best = (at(&last, j) + usize::from(a != b))
                .min(at(&last, j + 1) + 1)
                .min(at(&row, j) + 1)
                .min(swapped);
            row.push(best);
        }
        before = last;
        last = row;
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_are_understood() {
        let keys = ["requested_by", "recording", "durations"];
        assert_eq!(nearest("requestedby", keys), Some("requested_by"));
        assert_eq!(nearest("requested-by", keys), Some("requested_by"));
        assert_eq!(nearest("recrodnig", keys), Some("recording"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(distance("ca", "ac"), 1);
    }
}
