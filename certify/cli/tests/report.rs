//! The page of `tightrope report`; a browser opens it in the tests of the Python package.

mod common;

use common::{records, refused, run, stdout};

#[test]
fn pages_say_what_is_missing() {
    let here = tempfile::tempdir().expect("a folder");
    let (out, html) = (here.path().join("run.jsonl"), here.path().join("page.html"));
    let (out, html) = (out.to_str().expect("a name"), html.to_str().expect("a name"));
    let mut arguments = vec!["certify", "mnist-cnn-plain.onnx", "--eps", "0.02", "--indices", "0..4"];
    arguments.extend(["--data", "data/mnist-test-1000-images.idx.gz"]);
    arguments.extend(["--labels", "data/mnist-test-1000-labels.idx.gz", "--out", out]);
    stdout(&run(&arguments));
    stdout(&run(&["report", out, "--html", html]));
    let page = std::fs::read_to_string(html).expect("written");
    assert_eq!(page.matches("<img").count(), 4, "an image for each input");
    assert_eq!(records(std::path::Path::new(out)).1.len(), 4);
    let text = std::fs::read_to_string(out).expect("written");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    // A record short, the next cut off, and images that are no longer there under their name.
    let cut = lines[..3].concat() + &lines[3][..20];
    std::fs::write(out, cut.replace("mnist-test-1000-images", "none-<b>")).expect("room");
    stdout(&run(&["report", out, "--html", html]));
    let page = std::fs::read_to_string(html).expect("written");
    for text in ["the last line is cut off", "2 of 4 inputs are missing", "none-&lt;b&gt;", "are not shown"] {
        assert!(page.contains(text), "{text}");
    }
    std::fs::write(out, "{\"run\":{\"command\":\"bake\",\"indices\":[0,1]}}\n").expect("room");
    let why = refused(&["report", out, "--html", html], 2);
    assert!(why.contains("a run of `bake`; accepted: certify, attack"), "{why}");
}
