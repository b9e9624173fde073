//! Rows of several departments that meet on their unit.

use super::city::sessions;
use super::*;
use crate::catalogue::CleanRoom;
use crate::linked::{LinkedQuery, Presence, Registered, decode};
use crate::remote::Mode;
use guildhall_grant::product::Linkable;
use guildhall_model::{OutputClass, ProductRef};

const ROOM: &str = "spiffe://northmoor/council/clean-room/main";

/// Stays of one department, whose rows may meet those of the departments `with`.
fn of(department: &str, unit: &str, with: &[&str]) -> Given {
    let mut given = Given::open(&format!("northmoor.{department}.stays"), sessions(100));
    let batch = &given.batches[0];
    let named = [unit, "ward", "paid"].into_iter().zip(batch.columns());
    let columns = named.map(|(name, column)| (name, Arc::clone(column), true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    given = Given::open(&format!("northmoor.{department}.stays"), vec![batch]);
    given = given.private(unit, &["ward"], &["paid"]);
    let named = |w: &&str| format!("northmoor.{w}.stays").parse().unwrap();
    given.product.linkable = Some(Linkable {
        identity: "person".parse().unwrap(),
        dpia: "DPIA-1".parse().unwrap(),
        with: with.iter().map(named).collect(),
    });
    given.product.max_rows_per_unit = 3;
    given
}

fn city() -> City {
    let others = vec![
        of("care", "person", &["housing", "tax"]),
        of("housing", "tenant", &["care", "tax"]),
        of("tax", "payer", &["care", "housing"]),
    ];
    with_room(others, ROOM)
}

fn with_room(given: Vec<Given>, room: &str) -> City {
    let city = City::of(given);
    let room = CleanRoom {
        peer: room.parse().unwrap(),
        address: "room.test:1".to_owned(),
    };
    let catalogue = Arc::try_unwrap(city.catalogue).unwrap();
    City {
        catalogue: Arc::new(catalogue.with_clean_room(Some(room))),
        ..city
    }
}

/// The one fragment of `sql`, and the question in it as a clean room reads it.
async fn asked(city: &City, sql: &str) -> (Fragment, LinkedQuery) {
    let plan = city.plan(sql).await;
    let plan = plan.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let [whole] = plan.fragments() else {
        panic!("{:?}", plan.explain());
    };
    let known = |name: &ProductRef| {
        let mut products = city.catalogue.products();
        let product = products.find(|p| p.product.product_ref() == *name)?;
        Some(Registered {
            product: &product.product,
            schema: &product.schema,
        })
    };
    let (query, _) = decode(&whole.bytes, known).unwrap();
    (Fragment::clone(whole), query)
}

/// The rule and reason of a refusal.
async fn refused(city: &City, sql: &str) -> String {
    match city.refusal(sql).await {
        PlanError::Refused { refusal } => format!("{}: {}", refusal.rule, refusal.reason),
        other => panic!("{sql}: {other:?}"),
    }
}

fn presences(query: &LinkedQuery) -> Vec<(String, Presence)> {
    let members = query.members.iter();
    members
        .map(|m| (m.product.department.to_string(), m.presence))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_meet_are_one_fragment_with_a_part_for_each_department() {
    let city = city();
    let sql = "select c.ward, count(distinct c.person) as n, sum(h.paid) as s from northmoor.care.stays c \
               join northmoor.housing.stays h on c.person = h.tenant where h.ward = 'W1' group by c.ward";
    let (whole, query) = asked(&city, sql).await;
    assert_eq!(
        (whole.mode, whole.output),
        (Mode::Linked, OutputClass::ReleasedCells)
    );
    assert_eq!(whole.node.to_string(), ROOM);
    assert_eq!(whole.digest, Digest::of(&whole.bytes));
    let [care, housing] = whole.granted() else {
        panic!("{whole:?}");
    };
    for part in [care, housing] {
        assert_eq!(
            (part.mode, part.output),
            (Mode::Linked, OutputClass::TokenisedRows)
        );
        assert_eq!(part.linked, Some(whole.digest));
        assert_eq!(part.recipient.as_ref().unwrap().to_string(), ROOM);
    }
    // Of each the unit and what the question names, and no more.
    assert_eq!(care.columns(), "person, ward");
    assert_eq!(housing.columns(), "paid, tenant, ward");
    let both = [
        ("care", Presence::Required),
        ("housing", Presence::Required),
    ];
    assert_eq!(presences(&query), both.map(|(d, p)| (d.to_owned(), p)));
    let cells = &query.cells;
    assert_eq!(cells.unit.as_str(), "care/stays/person");
    assert_eq!(cells.keys[0].column.as_str(), "care/stays/ward");
    assert_eq!(cells.filters[0].column().as_str(), "housing/stays/ward");
}

#[tokio::test(flavor = "multi_thread")]
async fn however_it_is_written_it_is_the_same_question() {
    let city = city();
    let same = "select c.ward, count(distinct c.person) as n from northmoor.care.stays c \
                join northmoor.housing.stays h on c.person = h.tenant where h.ward = 'W1' group by c.ward";
    // But for the names of the answer's columns, which are the statement's own.
    let unnamed = |mut query: LinkedQuery| {
        let keys = query.cells.keys.iter_mut().map(|k| &mut k.name);
        let told = query.cells.aggregates.iter_mut().map(|a| &mut a.name);
        keys.chain(told).for_each(String::clear);
        query
    };
    let (_, first) = asked(&city, same).await;
    let first = unnamed(first);
    for other in [
        "select w as ward, count(distinct p) as n from (select ward as w, person as p from northmoor.care.stays) c, \
         northmoor.housing.stays h where 'W1' = h.ward and h.tenant = p group by w",
        "select c.ward, count(distinct c.person) as n from northmoor.care.stays c join (select tenant as t, ward as w \
         from northmoor.housing.stays where ward = concat('W', '1')) h on h.t = c.person group by c.ward",
        "select c.ward, count(distinct h.tenant) as n from northmoor.housing.stays h join northmoor.care.stays c \
         on h.tenant = c.person and h.ward = 'W1' group by c.ward",
    ] {
        let (_, query) = asked(&city, other).await;
        assert_eq!(unnamed(query), first, "{other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_another_department_may_have_to_be_there_unseen() {
    let city = city();
    for join in [
        "left semi join northmoor.housing.stays h on h.tenant = c.person",
        "where person in (select tenant from northmoor.housing.stays)",
    ] {
        let sql = format!(
            "select c.ward, count(*) as n from northmoor.care.stays c {join} group by c.ward"
        );
        let (whole, query) = asked(&city, &sql).await;
        let both = [("care", Presence::Required), ("housing", Presence::Some)];
        assert_eq!(
            presences(&query),
            both.map(|(d, p)| (d.to_owned(), p)),
            "{join}"
        );
        assert_eq!(whole.granted()[1].columns(), "tenant");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sums_of_rows_that_meet_several_are_bounded_by_as_much() {
    let care = of("care", "person", &["housing"]).product;
    let housing = of("housing", "tenant", &["care"]).product;
    let schema = Arc::new(arrow::datatypes::Schema::empty());
    let united = |presence| {
        let members = [(&care, Presence::Required), (&housing, presence)];
        let members = members.map(|(product, presence)| {
            let schema = &schema;
            (Registered { product, schema }, presence)
        });
        crate::linked::United::of(&members).unwrap().product
    };
    let upper = care.measures[0].upper;
    let both = united(Presence::Required);
    assert_eq!(
        (both.max_rows_per_unit, both.measures[0].upper),
        (9, 3.0 * upper)
    );
    let one = united(Presence::Some);
    assert_eq!((one.max_rows_per_unit, one.measures[0].upper), (3, upper));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_of_no_linked_grammar_is_refused_before_anything_is_asked() {
    let city = city();
    let both = "northmoor.care.stays c join northmoor.housing.stays h on";
    for (sql, said) in [
        (format!("select count(*) from {both} c.ward = h.ward"), "not joined on their unit"),
        (format!("select count(*) from {both} c.person = h.tenant and c.ward = h.ward"), "cube."),
        (format!("select count(*) from {both} c.person = h.tenant where c.paid > 5"), "cube."),
        (format!("select count(*) from {both} c.person = h.tenant where c.person = 'V1'"), "cube."),
        (format!("select c.person, count(*) from {both} c.person = h.tenant group by 1"), "cube."),
        (format!("select max(c.paid) from {both} c.person = h.tenant"), "cube."),
        ("select count(*) from northmoor.care.stays c full join northmoor.housing.stays h on c.person = h.tenant".to_owned(), "outer join"),
        ("select count(*) from northmoor.care.stays c, northmoor.housing.stays h".to_owned(), "not joined"),
        (
            "select count(*) from northmoor.care.stays a join northmoor.care.stays b on a.person = b.person \
             join northmoor.tax.stays t on t.payer = b.person".to_owned(),
            "with itself",
        ),
        (
            "select count(*) from northmoor.care.stays c join (select tenant from northmoor.housing.stays limit 5) h \
             on c.person = h.tenant".to_owned(),
            "limit",
        ),
        (
            "select count(*) from northmoor.care.stays c left join northmoor.housing.stays h on c.person = h.tenant".to_owned(),
            "outer join",
        ),
        (
            "select count(*) from northmoor.care.stays c left anti join northmoor.housing.stays h on c.person = h.tenant".to_owned(),
            "anti join",
        ),
        (
            "select count(*) from northmoor.care.stays where person not in (select tenant from northmoor.housing.stays)".to_owned(),
            "NOT IN",
        ),
        (
            "select count(*) from northmoor.care.stays where person in (select tenant from northmoor.housing.stays where ward = 'W1')".to_owned(),
            "conditions of its own",
        ),
        (
            "select count(*) from northmoor.care.stays c join northmoor.housing.stays h on cast(c.person as int) = cast(h.tenant as int)".to_owned(),
            "not joined on their unit",
        ),
    ] {
        let refusal = refused(&city, &sql).await;
        assert!(refusal.contains(said), "{sql}: {refusal}");
    }
    assert_eq!(city.traffic().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn departments_that_do_not_agree_and_clean_rooms_of_others_are_refused() {
    let sql = "select count(*) from northmoor.care.stays c join northmoor.housing.stays h on c.person = h.tenant";
    // Housing agrees to tax alone.
    let one_sided = vec![
        of("care", "person", &["housing"]),
        of("housing", "tenant", &["tax"]),
    ];
    let refusal = refused(&with_room(one_sided, ROOM), sql).await;
    assert!(refusal.contains("do not agree"), "{refusal}");
    // They do not mean the same by their units.
    let mut other = of("housing", "tenant", &["care"]);
    other.product.linkable.as_mut().unwrap().identity = "property".parse().unwrap();
    let refusal = refused(
        &with_room(vec![of("care", "person", &["housing"]), other], ROOM),
        sql,
    )
    .await;
    assert!(refusal.contains("do not agree"), "{refusal}");

    let agreed = || {
        vec![
            of("care", "person", &["housing"]),
            of("housing", "tenant", &["care"]),
        ]
    };
    let refusal = refused(&City::of(agreed()), sql).await;
    assert!(refusal.contains("none is configured"), "{refusal}");
    let theirs = with_room(agreed(), &ROOM.replace("northmoor", "southmere"));
    let refusal = refused(&theirs, sql).await;
    assert!(refusal.contains("in its own clean room"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_linked_question_are_none() {
    let city = city();
    let sql = "select c.ward, count(*) as n from northmoor.care.stays c join northmoor.housing.stays h \
               on c.person = h.tenant group by c.ward";
    let (whole, _) = asked(&city, sql).await;
    let known = |name: &ProductRef| {
        let mut products = city.catalogue.products();
        let product = products.find(|p| p.product.product_ref() == *name)?;
        Some(Registered {
            product: &product.product,
            schema: &product.schema,
        })
    };
    assert!(decode(&whole.bytes, known).is_ok());
    assert!(decode(&whole.bytes, |_| None).is_err());
    assert!(decode(b"", known).is_err());
    for cut in [1, whole.bytes.len() / 2, whole.bytes.len() - 1] {
        assert!(decode(&whole.bytes[..cut], known).is_err(), "{cut}");
    }
    let mut question = <guildhall_proto::clean_room::v1::LinkedQuestion as prost::Message>::decode(
        whole.bytes.clone(),
    )
    .unwrap();
    question.members.swap(0, 1);
    assert!(decode(&prost::Message::encode_to_vec(&question), known).is_err());
}
