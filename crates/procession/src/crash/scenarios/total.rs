//! The sum, printed last.

use super::stage::{alone, total_points};

#[test]
fn crash_total() {
    if alone() {
        println!(
            "crash: {} kill points in all scenarios so far",
            total_points()
        );
    }
}
