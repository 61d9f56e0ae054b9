//! Reads test results out of what test programs print: `test NAME ... ok`, as Rust's test runner and our own in-machine tests do.

/// What a test program reported.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Tests that passed.
    pub passed: usize,
    /// Names of tests that failed.
    pub failed: Vec<String>,
    /// Names of tests that were not run, with the reason if one was given. They prove nothing.
    pub skipped: Vec<String>,
}

impl Tally {
    /// Counts the result lines of a program's output.
    pub fn of(output: &str) -> Tally {
        let mut tally = Tally::default();
        for line in output.lines() {
            let Some((name, verdict)) =
                said(line).trim_end().strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
            else {
                continue;
            };
            // Output of the test itself may come between the dots and the verdict only if it was not captured; then the verdict
            // is not on this line and the program's exit status decides.
            match verdict.split([',', ' ', ':']).next() {
                Some("ok") => tally.passed += 1,
                Some("FAILED") => tally.failed.push(name.to_owned()),
                Some("ignored") => tally.skipped.push(format!("{name}{}", &verdict["ignored".len()..])),
                _ => {}
            }
        }
        tally
    }

    /// Adds another program's results.
    pub fn add(&mut self, other: Tally) {
        self.passed += other.passed;
        self.failed.extend(other.failed);
        self.skipped.extend(other.skipped);
    }
}

/// What a program said, without the head that a decoded console puts before plain text (`node 0    1.234 -: `).
pub fn said(line: &str) -> &str {
    let decoded = line.starts_with("node ").then(|| line.split_once(" -: ")).flatten();
    decoded.map_or(line, |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_of_both_kinds_of_programs_are_counted() {
        let output = "running 3 tests\n\
            test a::b ... ok\n\
            test src/lib.rs - x (line 3) ... ok\n\
            test c ... FAILED\n\
            test d ... ignored, needs a board\n\
            test cnode_revoke ... FAILED at a.rs:3: label is 2, not 0\r\n\
            test hang ... FAILED: still not done\n\
            node 0    1.234 -: test drivertest: reads ... ok\n\
            test result: FAILED. 2 passed; 1 failed; 1 ignored\n";
        let tally = Tally::of(output);
        assert_eq!(tally.passed, 3);
        assert_eq!(tally.failed, ["c", "cnode_revoke", "hang"]);
        assert_eq!(tally.skipped, ["d, needs a board"]);
    }

    #[test]
    fn what_looks_similar_does_not_count() {
        assert_eq!(
            Tally::of("test result: ok. 5 passed; 0 failed\ntesting ... ok\n test x ... ok\n"),
            Tally::default()
        );
    }
}
