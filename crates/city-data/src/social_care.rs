//! Adult social care.

use crate::city::Scale;
use crate::highways::Ward;
use crate::rhythm::{DAY, START};
use rand::Rng;

/// One case.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Its reference.
    pub case_ref: String,
    /// Whom it is about.
    pub person: String,
    /// Where they live.
    pub ward: String,
    /// Their age band, if recorded.
    pub age_band: Option<&'static str>,
    /// What they need.
    pub need: &'static str,
    /// Seconds since 1970, a midnight.
    pub opened: i64,
    /// Pence a week.
    pub weekly_pence: Option<i64>,
}

const AGES: [&str; 5] = ["18-34", "35-49", "50-64", "65-79", "80+"];
const NEEDS: [&str; 5] = [
    "home care",
    "day care",
    "equipment",
    "residential",
    "carer support",
];

pub(crate) fn cases(wards: &[Ward], scale: Scale, rng: &mut impl Rng) -> Vec<Case> {
    let people = scale.rows(2_600);
    (0..scale.rows(3_400))
        .map(|i| {
            let person = rng.random_range(0..people);
            // Where and how old follow from who, so that one person is one person.
            let ward = &wards[(person * 31) % wards.len()];
            let age = [0, 1, 2, 2, 3, 3, 3, 4, 4, 4][(person * 7) % 10];
            // The last two needs are rare: some of their groups are below any minimum.
            let need = match rng.random_range(0..1000) {
                0..480 => 0,
                480..730 => 1,
                730..930 => 2,
                930..990 => 3,
                _ => 4,
            };
            Case {
                case_ref: format!("ASC-{:06}", 100_000 + i),
                person: format!("PSN{:07}", 4_000_000 + person * 13),
                ward: ward.ward.clone(),
                age_band: rng.random_bool(0.98).then_some(AGES[age]),
                need: NEEDS[need],
                opened: START - rng.random_range(0..1_500) * DAY,
                weekly_pence: rng
                    .random_bool(0.97)
                    .then(|| rng.random_range(3_000..140_000)),
            }
        })
        .collect()
}
