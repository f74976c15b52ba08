//! The sum, printed last.

use super::stage::{alone, total_points};

#[test]
fn crash_total() {
    if alone() {
        let (kills, instructions) = total_points();
        println!(
            "crash: {kills} kill points in all scenarios so far, which stand for {instructions} instructions"
        );
    }
}
