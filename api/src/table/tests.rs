//! Tables written, read back, and refused with the place.

use super::*;
use crate::views::{DepotView, PartView, StockView};

const PARTS: &str = "part,unit_cost,description,supplier_lead_days,repairable,repair_days,repair_yield,pack_size,\
    minimum_order,successor,shelf_life_days,supplier_lead_days_p95,repair_places";

fn told<T: Row + DeserializeOwned>(table: &str) -> Vec<String> {
    match read::<T>(table.as_bytes()) {
        Ok(rows) => panic!("{} rows were taken of {table}", rows.len()),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// Every kind of cell, those that are easily lost too.
#[test]
fn what_is_written_is_read_back() {
    let text = format!(
        "{PARTS}\nfan,12.5,\"a \"\"fan\"\", 120 mm\nquiet\",30.0,true,2.5,0.9,4,8,fan-2,730.5,44.0,2\nbolt,0.1,,,false,,,,,,,,\n"
    );
    let rows: Vec<PartView> = read(text.as_bytes()).unwrap();
    assert_eq!(rows[0].description.as_deref(), Some("a \"fan\", 120 mm\nquiet"));
    assert_eq!((rows[0].repairable, rows[0].pack_size, rows[1].pack_size), (true, Some(4), None));
    assert_eq!((rows[0].shelf_life_days, rows[1].shelf_life_days), (Some(730.5), None));
    let written = csv_bytes(|out| {
        out.write_record(PartView::COLUMNS)?;
        rows.iter().try_for_each(|row| out.write_record(cells(row)))
    });
    assert_eq!(String::from_utf8(written).unwrap(), text);
}

#[test]
fn columns_come_in_any_order_and_those_with_a_default_may_be_empty_or_missing() {
    for table in [
        "on_hand,depot,part\n3,hub,fan\n",
        "\u{feff}part,depot,on_hand,in_transit\r\nfan,hub,3,\r\n",
        "part,depot,on_hand,in_transit\nfan,hub,3,0",
    ] {
        let rows: Vec<StockView> = read(table.as_bytes()).unwrap();
        let [StockView { part, depot, on_hand: 3, in_transit: 0 }] = rows.as_slice() else { panic!("{rows:?}") };
        assert_eq!((part.as_str(), depot.as_str()), ("fan", "hub"));
    }
    assert_eq!(read::<StockView>(b"part,depot,on_hand\n").unwrap().len(), 0);
}

#[test]
fn each_place_that_cannot_be_taken_is_told_with_line_and_column() {
    let table = "part,depot,on_hand\nfan,hub,3\nfan,,4\nfan,hub,-1\nfan,hub\n";
    let expected = [
        "line 3: missing field `depot`: its cell is empty or its column is not there; give it a value",
        "line 4 column on_hand: \"-1\" is not a whole number from 0",
        "line 5: the row has 2 cells and the header 3; quote cells that hold a comma",
    ];
    assert_eq!(told::<StockView>(table), expected);
    assert!(told::<DepotView>("depot,echelon\nhub,centre\n")[0].starts_with("line 2 column echelon: unknown variant"));
    assert!(told::<PartView>("part,unit_cost\nfan,NaN\n")[0].contains("line 2 column unit_cost: \"NaN\""));
    assert!(told::<PartView>("part,unit_cost\nfan,1e999\n")[0].contains("finite"));
    assert!(told::<PartView>("part,unit_cost,repairable\nfan,1,yes\n")[0].contains("\"yes\" is not true or false"));
    assert!(told::<StockView>("part,depot,on_hand\nfan,hub,\u{fffd}\n")[0].contains("line 2 column on_hand"));
    assert_eq!(told::<StockView>(&"part,depot,on_hand\nx".repeat(50)).len(), PROBLEMS_MAX);
}

#[test]
fn a_column_that_is_not_known_is_refused_even_where_it_is_empty() {
    let told = told::<StockView>("part,depot,on_hand,shelf\nfan,hub,3,\n");
    assert_eq!(
        told,
        ["line 1 column shelf: this column is not known; a table has part,depot,on_hand,in_transit: take it out"]
    );
}

#[test]
fn the_link_to_the_next_page_keeps_the_other_parameters() {
    let link = |query: &str| {
        let shape = Shape { csv: true, path: "/api/v1/stock".to_owned(), query: query.to_owned() };
        shape.link_to_next("NEXT").unwrap().to_str().unwrap().to_owned()
    };
    assert_eq!(link(""), "</api/v1/stock?cursor=NEXT>; rel=\"next\"");
    assert_eq!(link("depot=hub&cursor=x&limit=2"), "</api/v1/stock?depot=hub&limit=2&cursor=NEXT>; rel=\"next\"");
}
