//! A fuzzer of the grammar: questions that are answered, changed step by step towards those that are refused.
//!
//! `GUILDHALL_CASES` says how many, `GUILDHALL_SEED` from where; the same seed gives the same statements. Whatever
//! becomes of one, no byte of it holds a canary, no released count is below the minimum, and nothing fails.

use crate::judge::Scene;
use crate::table::fill;
use crate::town::Chance;
use futures::{StreamExt as _, stream};
use tonic::Code;

const SEEDS: &[&str] = &[
    "SELECT ward , count ( DISTINCT person ) AS n FROM {c} GROUP BY ward",
    "SELECT street , count ( * ) AS n , sum ( hours ) AS h FROM {c} GROUP BY street ORDER BY n DESC LIMIT 9",
    "SELECT need , age_band , avg ( weekly_cost ) AS a FROM {c} WHERE ward = 'W1' GROUP BY need , age_band",
    "SELECT date_trunc ( 'month' , opened ) AS m , count ( * ) AS n FROM {c} WHERE age_band IN ( '65-79' , '80+' ) GROUP BY 1",
    "SELECT count ( * ) AS n , sum ( balance ) AS b FROM {c} WHERE ward = 'W5' AND need = 'respite'",
    "SELECT DISTINCT street FROM {c} WHERE ward = 'W2'",
    "SELECT x . ward , x . n FROM ( SELECT ward , count ( * ) AS n FROM {c} GROUP BY ward HAVING count ( * ) > 20 ) x JOIN {w} w ON w . ward = x . ward",
    "WITH q AS ( SELECT ward , street , person , hours FROM {c} ) SELECT street , count ( DISTINCT person ) AS n FROM q GROUP BY street",
    "SELECT council , age_band , count ( * ) AS n FROM {u} GROUP BY council , age_band",
    "SELECT kind , count ( * ) AS n , avg ( minutes ) AS a FROM {v} WHERE ward = 'W4' GROUP BY kind",
    "SELECT booking , phone , amount FROM {b} WHERE state = 'open' AND booking > 1100 ORDER BY booking",
    "SELECT permit , ward FROM {p} WHERE ward = 'W1' ORDER BY permit LIMIT 20",
    "SELECT ward , n , rank ( ) OVER ( ORDER BY n ) AS r FROM ( SELECT ward , count ( * ) AS n FROM {c} GROUP BY ward ) x",
];

const COLUMNS: &[&str] = &[
    "person",
    "name",
    "note",
    "ward",
    "age_band",
    "need",
    "street",
    "opened",
    "weekly_cost",
    "hours",
    "balance",
    "vehicle",
    "pin",
    "holder",
    "phone",
    "state",
    "amount",
    "booking",
    "minutes",
    "kind",
    "debt",
];
const FUNCTIONS: &[&str] = &[
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "median",
    "first_value",
    "array_agg",
    "string_agg",
    "any_value",
    "stddev",
    "approx_distinct",
    "bit_or",
    "upper",
    "reverse",
    "left",
    "octet_length",
    "abs",
    "floor",
    "round",
    "coalesce",
    "nullif",
    "greatest",
    "to_char",
    "date_part",
    "row_number",
    "lag",
    "concat",
    "md5",
    "regexp_replace",
];
const OPERATORS: &[&str] = &[
    "=",
    "<>",
    "<",
    ">",
    ">=",
    "LIKE",
    "IS DISTINCT FROM",
    "~",
    "||",
    "+",
    "IS NOT NULL OR ward =",
];
const VALUES: &[&str] = &[
    "'W5'",
    "'W4'",
    "'80+'",
    "'H%'",
    "0",
    "10",
    "11937",
    "NULL",
    "true",
    "( SELECT max ( name ) FROM {c} )",
    "'respite'",
];
const PRODUCTS: &[&str] = &["{c}", "{v}", "{b}", "{p}", "{r}", "{u}", "{l}", "{e}"];
const WORDS: &[&str] = &[
    "NOT",
    "DISTINCT",
    "OR",
    "AND",
    "OVER ( )",
    "FILTER ( WHERE ward = 'W5' )",
    "ALL",
    "CROSS JOIN {w}",
    "LIMIT 1",
    "GROUP BY person",
    "UNION ALL SELECT name FROM {c}",
    "EXCEPT SELECT ward FROM {w}",
    "HAVING count ( * ) < 10",
    "ORDER BY weekly_cost",
    "AS ward",
    ", name",
    ", max ( weekly_cost )",
    ", array_agg ( name )",
    "WHERE name IS NOT NULL",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_mutant_of_an_answered_question_catches_a_canary() {
    let number = |name: &str, otherwise: u64| {
        std::env::var(name)
            .ok()
            .map_or(otherwise, |n| n.parse().unwrap())
    };
    let (cases, seed) = (number("GUILDHALL_CASES", 400), number("GUILDHALL_SEED", 1));
    let scene = Scene::start().await;
    for seed in SEEDS {
        assert_eq!(try_one(&scene, fill(seed)).await, (true, None), "{seed}");
    }
    let mutants =
        (0..cases).map(|case| mutant(&mut Chance(seed.wrapping_mul(1_000_003).wrapping_add(case))));
    let tried: Vec<(bool, Option<String>)> = stream::iter(mutants.map(|sql| try_one(&scene, sql)))
        .buffered(4)
        .collect()
        .await;
    let answered = tried.iter().filter(|(answered, _)| *answered).count();
    eprintln!("fuzzer: {cases} statements from seed {seed}, {answered} answered");
    let wrong: Vec<String> = tried.into_iter().filter_map(|(_, wrong)| wrong).collect();
    let last = try_one(&scene, fill(SEEDS[0])).await;
    scene.city.city.stop().await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(last, (true, None), "an honest question afterwards");
}

/// Whether `sql` was answered, and what was wrong with that.
async fn try_one(scene: &Scene, sql: String) -> (bool, Option<String>) {
    let outcome = scene.mallory.ask(&sql).await;
    let mut result = scene.clean(&sql, &outcome);
    if let Err((code @ (Code::DeadlineExceeded | Code::Unavailable | Code::Cancelled), words)) =
        &outcome.answer
    {
        result = result.and(Err(format!("{code:?} {words}")));
    }
    (
        outcome.answer.is_ok(),
        result.err().map(|e| format!("{sql}: {e}")),
    )
}

/// One or two changes to one of the seeds.
fn mutant(chance: &mut Chance) -> String {
    let mut words: Vec<String> = chance.pick(SEEDS).split(' ').map(str::to_owned).collect();
    for _ in 0..=chance.below(2) {
        change(&mut words, chance);
    }
    fill(&words.join(" "))
}

fn change(words: &mut Vec<String>, chance: &mut Chance) {
    let kinds: [(&[&str], &[&str]); 4] = [
        (COLUMNS, COLUMNS),
        (FUNCTIONS, FUNCTIONS),
        (&["=", ">", "<"], OPERATORS),
        (PRODUCTS, PRODUCTS),
    ];
    match chance.below(9) {
        // One of a kind by another of its kind.
        kind @ 0..4 => {
            let (from, to) = kinds[usize::try_from(kind).unwrap()];
            if let Some(at) = place(words, chance, |w| from.contains(&w)) {
                words[at] = chance.pick(to).to_owned();
            }
        }
        // A column inside a function.
        4 => {
            if let Some(at) = place(words, chance, |w| COLUMNS.contains(&w)) {
                words[at] = format!("{} ( {} )", chance.pick(FUNCTIONS), words[at]);
            }
        }
        // One more condition.
        5 => {
            let condition = format!(
                "{} {} {}",
                chance.pick(COLUMNS),
                chance.pick(OPERATORS),
                chance.pick(VALUES)
            );
            match place(words, chance, |w| w == "WHERE") {
                Some(at) => {
                    words[at] = format!(
                        "WHERE {condition} {}",
                        chance.pick(&["AND", "OR", "AND NOT"])
                    )
                }
                None => after_product(words, chance, &format!("WHERE {condition}")),
            }
        }
        // A value by another.
        6 => {
            if let Some(at) = place(words, chance, |w| w.starts_with('\'')) {
                words[at] = chance.pick(VALUES).to_owned();
            }
        }
        // A word too many.
        7 => {
            let at = chance.index(words.len() + 1);
            words.insert(at, chance.pick(WORDS).to_owned());
        }
        // A word too few, or two that changed places.
        _ => {
            let (a, b) = (chance.index(words.len()), chance.index(words.len()));
            if chance.below(2) == 0 && words.len() > 4 {
                words.remove(a);
            } else {
                words.swap(a, b);
            }
        }
    }
}

fn after_product(words: &mut Vec<String>, chance: &mut Chance, what: &str) {
    if let Some(at) = place(words, chance, |w| PRODUCTS.contains(&w)) {
        words.insert(at + 1, what.to_owned());
    }
}

/// A random place of a word that is `wanted`.
fn place(words: &[String], chance: &mut Chance, wanted: impl Fn(&str) -> bool) -> Option<usize> {
    let places: Vec<usize> = words
        .iter()
        .enumerate()
        .filter(|(_, w)| wanted(w))
        .map(|(at, _)| at)
        .collect();
    if places.is_empty() {
        None
    } else {
        Some(chance.pick(&places))
    }
}
