//! Any bytes are a property of either language or an error, and what is
//! printed means the same: it can be read again.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tightrope::query::Property;

fuzz_target!(|bytes: &[u8]| {
    let name = Path::new("fuzzed.vnnlib");
    let Ok(property) = Property::parse(name, bytes) else { return };
    let printed = property.to_string();
    if printed.len() < 1 << 20 {
        let again = Property::parse(name, printed.as_bytes()).expect("what is printed can be read");
        assert_eq!(again.variables.len(), property.variables.len());
    }
});
