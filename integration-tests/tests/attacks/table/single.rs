//! Asking for one person.

use super::Line;
use super::Verdict::{Clean, Denied, Null, Rule, SameAs, Withheld};

pub(super) const SINGLING_OUT: &[Line] = &[
    (
        "by identifier",
        "SELECT count(*) FROM {c} WHERE person = 'P-7Q2MZEBEDEE'",
        Rule("cube.identifier"),
    ),
    (
        "by name",
        "SELECT sum(weekly_cost) FROM {c} WHERE name = 'Zebedee Quillfeather'",
        Rule("cube.identifier"),
    ),
    (
        "by half a name",
        "SELECT count(*) FROM {c} WHERE name LIKE 'Zebedee%'",
        Rule("cube.predicate"),
    ),
    (
        "by the start of a name",
        "SELECT count(*) FROM {c} WHERE starts_with(name, 'Zebedee')",
        Rule("cube.predicate"),
    ),
    (
        "by free text",
        "SELECT count(*) FROM {c} WHERE note LIKE '%red kite%'",
        Rule("cube.predicate"),
    ),
    (
        "by a measure",
        "SELECT count(*) FROM {c} WHERE weekly_cost = 11937.43",
        Rule("cube.dimension"),
    ),
    (
        "by a range of a measure",
        "SELECT count(*) FROM {c} WHERE weekly_cost > 10000",
        Rule("cube.predicate"),
    ),
    (
        "between two measures",
        "SELECT count(*) FROM {c} WHERE weekly_cost BETWEEN 11937 AND 11938",
        Rule("cube.predicate"),
    ),
    (
        "by a number out of bounds",
        "SELECT avg(weekly_cost) FROM {c} WHERE hours = 98765431",
        Rule("cube.dimension"),
    ),
    (
        "by a range of time",
        "SELECT count(*) FROM {c} WHERE opened >= TIMESTAMP '2025-03-01 00:00:00' AND opened < TIMESTAMP '2025-03-02 00:00:00'",
        Rule("cube.predicate"),
    ),
    (
        "by the minute",
        "SELECT date_trunc('minute', opened) AS t, count(*) FROM {c} GROUP BY 1",
        Rule("cube.roll-up"),
    ),
    (
        "by the hour",
        "SELECT count(*) FROM {c} WHERE date_trunc('hour', opened) = TIMESTAMP '2025-03-01 05:00:00'",
        Rule("cube.roll-up"),
    ),
    (
        "by each moment",
        "SELECT opened, count(*) AS n FROM {c} GROUP BY opened",
        Withheld,
    ),
    (
        "by a part of a date",
        "SELECT count(*) FROM {c} WHERE date_part('dow', opened) = 3",
        Rule("cube.expression"),
    ),
    (
        "by the length of a street's name",
        "SELECT count(*) FROM {c} WHERE octet_length(street) = 10",
        Rule("cube.expression"),
    ),
    (
        "by a pattern of a dimension",
        "SELECT count(*) FROM {c} WHERE street LIKE 'H%'",
        Rule("cube.predicate"),
    ),
    (
        "by a made-up group",
        "SELECT count(*) FROM {c} WHERE ward IN ('W4', 'W5')",
        Rule("cube.group"),
    ),
    (
        "by half of a registered group and another",
        "SELECT count(*) FROM {c} WHERE age_band IN ('80+', '18-49')",
        Rule("cube.group"),
    ),
    (
        "by a list of people",
        "SELECT count(*) FROM {c} WHERE person IN ('P-7Q2MZEBEDEE', 'P-4K9XPHILOMENA')",
        Denied,
    ),
    (
        "by no value",
        "SELECT count(*) FROM {c} WHERE street IS NULL",
        Rule("cube.predicate"),
    ),
    (
        "by two values of one dimension",
        "SELECT count(*) FROM {c} WHERE ward = 'W1' AND ward = 'W2'",
        Rule("cube.one-filter"),
    ),
    (
        "by comparing two columns",
        "SELECT count(*) FROM {c} WHERE ward = street",
        Rule("cube.predicate"),
    ),
    (
        "by CASE",
        "SELECT count(*) FROM {c} WHERE CASE WHEN name = 'Zebedee Quillfeather' THEN true ELSE false END",
        Rule("cube.predicate"),
    ),
    (
        "by coalesce",
        "SELECT count(*) FROM {c} WHERE coalesce(street, 'x') = 'Hoopoe Cut'",
        Rule("cube.expression"),
    ),
    (
        "by a cast that merges",
        "SELECT count(*) FROM {c} WHERE CAST(opened AS DATE) = DATE '2025-03-01'",
        Rule("cube.expression"),
    ),
    (
        "grouped by identifier",
        "SELECT person, count(*) FROM {c} GROUP BY person",
        Rule("cube.identifier"),
    ),
    (
        "grouped by name",
        "SELECT name, sum(weekly_cost) FROM {c} GROUP BY name",
        Rule("cube.identifier"),
    ),
    (
        "grouped by a measure",
        "SELECT hours, count(*) FROM {c} GROUP BY hours",
        Rule("cube.dimension"),
    ),
    (
        "grouped by an expression",
        "SELECT left(person, 5) AS p, count(*) FROM {c} GROUP BY 1",
        Rule("cube.expression"),
    ),
    (
        "grouped by an identifier called ward",
        "SELECT ward, count(*) FROM (SELECT person AS ward FROM {c}) x GROUP BY ward",
        Rule("cube.identifier"),
    ),
    (
        "grouping sets down to one",
        "SELECT ward, person, count(*) FROM {c} GROUP BY GROUPING SETS ((ward), (person))",
        Rule("cube.grouping-sets"),
    ),
    (
        "a cube of dimensions",
        "SELECT ward, street, need, count(*) FROM {c} GROUP BY CUBE (ward, street, need)",
        Rule("cube.grouping-sets"),
    ),
    (
        "a roll-up of dimensions",
        "SELECT ward, street, count(*) FROM {c} GROUP BY ROLLUP (ward, street)",
        Rule("cube.grouping-sets"),
    ),
    (
        "every dimension at once",
        "SELECT ward, age_band, need, street, date_trunc('day', opened) AS d, count(*) AS n, sum(weekly_cost) AS s FROM {c} GROUP BY 1, 2, 3, 4, 5",
        Withheld,
    ),
    (
        "the street of three",
        "SELECT count(*) AS n, sum(hours) AS h FROM {c} WHERE street = 'Hoopoe Cut'",
        Withheld,
    ),
    (
        "the street of three reads like none",
        "SELECT count(*) AS n, sum(hours) AS h FROM {c} WHERE street = 'Hoopoe Cut'",
        SameAs("SELECT count(*) AS n, sum(hours) AS h FROM {c} WHERE street = 'Hoopoe Nil'"),
    ),
    (
        "the ward of seven reads like none",
        "SELECT count(DISTINCT person) AS n FROM {c} WHERE ward = 'W5'",
        SameAs("SELECT count(DISTINCT person) AS n FROM {c} WHERE ward = 'W6'"),
    ),
    (
        "the need of two, by ward, reads like none",
        "SELECT ward, avg(weekly_cost) AS a FROM {c} WHERE need = 'kestrel fostering' GROUP BY ward",
        SameAs(
            "SELECT ward, avg(weekly_cost) AS a FROM {c} WHERE need = 'kestrel fosterink' GROUP BY ward",
        ),
    ),
    (
        "a day and a street reads like a day without",
        "SELECT count(*) AS n FROM {c} WHERE street = 'Gannet Row' AND date_trunc('day', opened) = TIMESTAMP '2025-03-01 00:00:00'",
        SameAs(
            "SELECT count(*) AS n FROM {c} WHERE street = 'Gannet Row' AND date_trunc('day', opened) = TIMESTAMP '2031-03-01 00:00:00'",
        ),
    ),
    (
        "cells of one person only",
        "SELECT street, need, count(DISTINCT person) AS n FROM {c} GROUP BY street, need HAVING count(DISTINCT person) = 1",
        Withheld,
    ),
    (
        "cells below the minimum only",
        "SELECT ward, street, age_band, count(*) AS n FROM {c} GROUP BY 1, 2, 3 HAVING count(*) < 8",
        Withheld,
    ),
    (
        "a total that is one person's",
        "SELECT count(DISTINCT person) AS n, sum(weekly_cost) AS total FROM {c} WHERE street = 'Gannet Row'",
        Null("total"),
    ),
    (
        "a total that is nearly all one person's",
        "SELECT count(DISTINCT person) AS n, sum(weekly_cost) AS total FROM {c} WHERE street = 'Heron Row'",
        Null("total"),
    ),
    (
        "a total that is nearly all two people's",
        "SELECT ward, sum(minutes) AS total FROM {v} WHERE ward = 'W8' GROUP BY ward",
        Null("total"),
    ),
    (
        "a total from which one person's is taken",
        "SELECT sum(balance) AS total FROM {c} WHERE street = 'Siskin Side'",
        Null("total"),
    ),
    (
        "a mean of five among twenty",
        "SELECT ward, avg(minutes) AS mean FROM {v} WHERE ward = 'W5' GROUP BY ward",
        Null("mean"),
    ),
    (
        "the few of each estate",
        "SELECT estate, count(DISTINCT person) AS n FROM {e} WHERE scheme = 'D' GROUP BY estate",
        Withheld,
    ),
    (
        "streets of thirteen people",
        "SELECT street, count(DISTINCT person) AS n FROM {n} GROUP BY street",
        Clean,
    ),
    (
        "a mean that is one person's",
        "SELECT street, avg(weekly_cost) AS mean FROM {c} WHERE street = 'Gannet Row' GROUP BY street",
        Null("mean"),
    ),
    (
        "who is in the cells, by a filter on the other side",
        "SELECT w.ward FROM {w} w WHERE w.population > (SELECT count(*) FROM {c} c WHERE c.person = 'P-7Q2MZEBEDEE')",
        Rule("cube.identifier"),
    ),
];
