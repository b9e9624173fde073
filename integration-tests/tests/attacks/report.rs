//! What the red team reports, in the form in which the README shows it.

use crate::judge::Finding;
use std::collections::BTreeMap;

/// The kinds of verdict, in the order of the table.
const VERDICTS: [&str; 6] = [
    "refused", "withheld", "released", "same-as", "clean", "survives",
];

/// One line a class: how many attacks, and how many of each verdict.
pub(crate) fn table(findings: &[Finding]) -> String {
    let mut classes: Vec<&str> = Vec::new();
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for f in findings {
        if !classes.contains(&f.class) {
            classes.push(f.class);
        }
        *counts.entry((f.class, f.verdict)).or_default() += 1;
    }
    let mut lines = vec![
        format!("| class | attacks | {} |", VERDICTS.join(" | ")),
        "|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    let line = |class: &str, count: &dyn Fn(&str) -> usize| {
        let of: Vec<usize> = VERDICTS.iter().map(|v| count(v)).collect();
        let told: Vec<String> = of
            .iter()
            .map(|n| {
                if *n == 0 {
                    String::new()
                } else {
                    n.to_string()
                }
            })
            .collect();
        format!(
            "| {class} | {} | {} |",
            of.iter().sum::<usize>(),
            told.join(" | ")
        )
    };
    for class in &classes {
        lines.push(line(class, &|v| {
            counts.get(&(*class, v)).copied().unwrap_or(0)
        }));
    }
    lines.push(line("all", &|v| {
        findings.iter().filter(|f| f.verdict == v).count()
    }));
    lines.join("\n")
}

/// What failed, and what is awaited, a line each.
pub(crate) fn failures(findings: &[Finding], awaited: bool) -> Vec<String> {
    let failed = findings.iter().filter(|f| f.awaited == awaited);
    failed
        .filter_map(|f| Some(format!("{} / {}: {}", f.class, f.name, f.failure.as_ref()?)))
        .collect()
}
