//! How long gathering takes, of rows like those of `guildhall-bench release`:
//! `cargo test --release -p guildhall-disclosure --lib -- --ignored --nocapture tests::measure`.

use crate::Axis;
use crate::gather::{Adds, Gathering, Takes};
use crate::tests::secret;
use arrow::array::{ArrayRef, Decimal128Array, StringViewArray};
use std::sync::Arc;
use std::time::Duration;

const ROWS: u64 = 5_000_000;
const BATCH: u64 = 32_768;

#[test]
#[ignore = "a measurement"]
fn gathering_and_its_tables() {
    for axes in 0..=2 {
        let started = on_processor();
        let all = 0..ROWS.div_ceil(BATCH);
        let batches: Vec<_> = all.map(|at| batch(at * BATCH, axes)).collect();
        let made = on_processor() - started;
        let started = on_processor();
        let mut gathering = Gathering::new(secret(), adds()).one_of(2);
        for (keys, unit, values) in &batches {
            gathering.push(keys, unit, values).unwrap();
        }
        let (pushed, bytes) = ((on_processor() - started), gathering.bytes());
        let gathered = gathering.finish().unwrap();
        let finished = on_processor() - started;
        let axis = Axis {
            coarser: vec![vec![]],
            declared: vec![],
        };
        let all = vec![axis; axes];
        for table in 0..1_usize << axes {
            let levels: Vec<usize> = (0..axes).map(|at| table >> at & 1).collect();
            gathered.table(&all, &levels, &[]).unwrap();
        }
        println!(
            "{axes} axes: made in {made:?}, pushed in {pushed:?}, finished at {finished:?}, with {} tables at {:?}; {} MiB",
            1 << axes,
            (on_processor() - started),
            bytes >> 20
        );
    }
}

/// Time that this thread has spent on a processor, which other work on the machine does not lengthen (Linux).
fn on_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

fn adds() -> Vec<Adds> {
    let (lower, upper) = (0, 1_000_000);
    let takes = [Takes::Rows, Takes::Sum(0), Takes::Values(0)];
    let adds = takes.map(|takes| Adds {
        takes,
        lower,
        upper,
        scale: 0,
    });
    adds.to_vec()
}

fn batch(from: u64, axes: usize) -> (Vec<ArrayRef>, ArrayRef, Vec<ArrayRef>) {
    let rows = from..(from + BATCH).min(ROWS);
    let persons = ROWS / 10;
    let mixed = |n: u64, salt: u64| {
        let mut x = n.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(salt);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x ^ (x >> 27)
    };
    let text = |of: &dyn Fn(u64) -> String| -> ArrayRef {
        Arc::new(StringViewArray::from_iter_values(rows.clone().map(of)))
    };
    let person = |n| mixed(n, 1) % persons * (mixed(n, 2) % persons) / persons;
    let keys = [
        text(&|n| format!("W{:02}", mixed(n, 3) % 32)),
        text(&|n| format!("{}", mixed(n, 4) % 8)),
    ];
    let amounts = rows.clone().map(|n| i128::from(50 + mixed(n, 6) % 2_000));
    let amounts = Decimal128Array::from_iter_values(amounts);
    let amounts = amounts.with_precision_and_scale(38, 0).unwrap();
    (
        keys[..axes].to_vec(),
        text(&|n| format!("P{:08}", person(n))),
        vec![Arc::new(amounts)],
    )
}
