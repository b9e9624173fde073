//! The 22 queries of TPC-H with their validation parameters.

use tpchgen::q_and_a::queries;

/// Values for `:1`, `:2` and so on, by query.
const VALUES: [&[&str]; 22] = [
    &["90"],
    &["15", "BRASS", "EUROPE"],
    &["BUILDING", "1995-03-15"],
    &["1993-07-01"],
    &["ASIA", "1994-01-01"],
    &["1994-01-01", "0.06", "24"],
    &["FRANCE", "GERMANY"],
    &["BRAZIL", "AMERICA", "ECONOMY ANODIZED STEEL"],
    &["green"],
    &["1993-10-01"],
    &["GERMANY", "0.0001"],
    &["MAIL", "SHIP", "1994-01-01"],
    &["special", "requests"],
    &["1995-09-01"],
    &["1996-01-01"],
    &[
        "Brand#45",
        "MEDIUM POLISHED",
        "49",
        "14",
        "23",
        "45",
        "19",
        "3",
        "36",
        "9",
    ],
    &["Brand#23", "MED BOX"],
    &["300"],
    &["Brand#12", "Brand#23", "Brand#34", "1", "10", "20"],
    &["forest", "1994-01-01", "CANADA"],
    &["SAUDI ARABIA"],
    &["13", "31", "23", "29", "30", "18", "17"],
];

/// Rows that a query's text limits in words only.
const LIMITS: [(usize, usize); 5] = [(2, 100), (3, 10), (10, 20), (18, 100), (21, 100)];

const Q15: &str = "with revenue (supplier_no, total_revenue) as (
    select l_suppkey, sum(l_extendedprice * (1 - l_discount)) from lineitem
    where l_shipdate >= date ':1' and l_shipdate < date ':1' + interval '3' month
    group by l_suppkey)
select s_suppkey, s_name, s_address, s_phone, total_revenue
from supplier, revenue
where s_suppkey = supplier_no and total_revenue = (select max(total_revenue) from revenue)
order by s_suppkey";

const TABLES: [&str; 8] = [
    "lineitem", "orders", "customer", "partsupp", "part", "supplier", "nation", "region",
];

/// Query `number`, its tables named by `name`.
pub(super) fn query(number: usize, name: impl Fn(&str) -> String) -> String {
    let mut text = if number == 15 {
        Q15.to_owned()
    } else {
        queries::query(i32::try_from(number).unwrap())
            .unwrap()
            .to_owned()
    };
    for (i, value) in VALUES[number - 1].iter().enumerate().rev() {
        text = text.replace(&format!(":{}", i + 1), value);
    }
    text = text
        .replace(" day (3)", " day")
        .trim()
        .trim_end_matches(';')
        .to_owned();
    if let Some((_, rows)) = LIMITS.iter().find(|(n, _)| *n == number) {
        text = format!("{text} limit {rows}");
    }
    from_tables(&text, name)
}

/// The text with every table's name, as a word of its own in a `from`, replaced.
fn from_tables(text: &str, name: impl Fn(&str) -> String) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')');
    let mut out = String::new();
    let mut in_from = false;
    let mut before = String::new();
    for word in text.split_inclusive(ends) {
        let bare = word.trim_end_matches(ends);
        match bare {
            "from" => in_from = true,
            "where" | "group" | "order" | "on" | "select" => in_from = false,
            _ => {}
        }
        if in_from && before != "as" && TABLES.contains(&bare) {
            out.push_str(&name(bare));
        } else {
            out.push_str(bare);
        }
        out.push_str(&word[bare.len()..]);
        if !bare.is_empty() {
            bare.clone_into(&mut before);
        }
    }
    out
}
