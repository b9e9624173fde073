//! Linear reconstruction: what released sums over known sets of people say of each of them.

/// A released number, and the people whose unknowns add up to it.
#[derive(Debug, Clone)]
pub(crate) struct Equation {
    pub(crate) people: Vec<usize>,
    pub(crate) total: f64,
}

/// How often every equation is gone through.
const SWEEPS: usize = 40;

/// The unknowns between 0 and 1 that fit `equations` best, by Kaczmarz's projections from one half.
pub(crate) fn solve(people: usize, equations: &[Equation]) -> Vec<f64> {
    let mut x = vec![0.5_f64; people];
    for _ in 0..SWEEPS {
        for e in equations.iter().filter(|e| !e.people.is_empty()) {
            let now: f64 = e.people.iter().map(|p| x[*p]).sum();
            let step = (e.total - now) / e.people.len() as f64;
            for p in &e.people {
                x[*p] = (x[*p] + step).clamp(0.0, 1.0);
            }
        }
    }
    x
}

#[test]
fn exact_sums_over_overlapping_sets_give_the_unknowns_away() {
    let truth = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0];
    let sets: [&[usize]; 7] = [
        &[0, 1],
        &[1, 2],
        &[2, 3],
        &[3, 4],
        &[4, 5],
        &[0, 1, 2, 3],
        &[0, 5],
    ];
    let equations: Vec<Equation> = sets
        .iter()
        .map(|s| Equation {
            people: s.to_vec(),
            total: s.iter().map(|p| truth[*p]).sum(),
        })
        .collect();
    let found: Vec<f64> = solve(6, &equations).into_iter().map(f64::round).collect();
    assert_eq!(found, truth);
}
