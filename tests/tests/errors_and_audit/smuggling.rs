//! Requests that two parsers can understand differently.

/// Each ends in a request for SMUGGLED-1 that one parser sees and another does not.
pub fn smuggling() -> Vec<(&'static str, Vec<u8>)> {
    let inner = "GET /jira/rest/api/2/issue/SMUGGLED-1 HTTP/1.1\r\nHost: vendor\r\nConnection: close\r\n\r\n";
    let post = "POST /jira/rest/api/2/issue HTTP/1.1\r\nHost: vendor\r\n";
    let get = "GET /jira/rest/api/2/issue/OUTER-1 HTTP/1.1\r\nHost: vendor\r\n";
    let n = inner.len();
    let chunk = format!("{n:x}\r\n{inner}\r\n0\r\n\r\n");
    let cases = [
        (
            "CL.TE",
            format!(
                "{post}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
                n + 5
            ),
        ),
        (
            "TE.CL",
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunk}"),
        ),
        (
            "two lengths",
            format!("{post}Content-Length: 0\r\nContent-Length: {n}\r\n\r\n{inner}"),
        ),
        (
            "one length twice",
            format!("{post}Content-Length: {n}\r\nContent-Length: {n}\r\n\r\n{inner}"),
        ),
        (
            "a list of lengths",
            format!("{post}Content-Length: 0, {n}\r\n\r\n{inner}"),
        ),
        (
            "signed length",
            format!("{post}Content-Length: +0\r\n\r\n{inner}"),
        ),
        (
            "hexadecimal length",
            format!("{post}Content-Length: 0x0\r\n\r\n{inner}"),
        ),
        (
            "negative length",
            format!("{post}Content-Length: -1\r\n\r\n{inner}"),
        ),
        (
            "empty length",
            format!("{post}Content-Length:\r\n\r\n{inner}"),
        ),
        (
            "endless length",
            format!("{post}Content-Length: 99999999999999999999\r\n\r\n{inner}"),
        ),
        (
            "length with an inner space",
            format!("{post}Content-Length: 0 0\r\n\r\n{inner}"),
        ),
        (
            "space before the colon",
            format!("{post}Content-Length : {n}\r\n\r\n{inner}"),
        ),
        (
            "tab before the colon",
            format!("{post}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "folded length",
            format!("{post}Content-Length:\r\n 0\r\n\r\n{inner}"),
        ),
        (
            "folded coding",
            format!("{post}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "unknown coding",
            format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "identity coding",
            format!("{post}Transfer-Encoding: identity\r\n\r\n{inner}"),
        ),
        (
            "coding list",
            format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "coding twice",
            format!(
                "{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
            ),
        ),
        (
            "two codings",
            format!(
                "{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n{inner}"
            ),
        ),
        (
            "gzip, chunked",
            format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "quoted coding",
            format!("{post}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "vertical tab before the coding",
            format!("{post}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "NUL in a value",
            format!("{post}X: a\0b\r\nContent-Length: 0\r\n\r\n{inner}"),
        ),
        (
            "CR in a value",
            format!("{get}X: a\rContent-Length: {n}\r\n\r\n{inner}"),
        ),
        (
            "LF in a value",
            format!("{get}X: a\nContent-Length: {n}\r\n\r\n{inner}"),
        ),
        (
            "lines that end in LF",
            format!("{}\n{inner}", get.replace("\r\n", "\n")),
        ),
        ("an empty line with LF", format!("{get}\n{inner}")),
        (
            "a line without a colon",
            format!("{get}nonsense\r\n\r\n{inner}"),
        ),
        ("a name with a space", format!("{get}X Y: a\r\n\r\n{inner}")),
        ("an empty name", format!("{get}: a\r\n\r\n{inner}")),
        (
            "a first line that is folded",
            format!(
                "{} folded: x\r\n\r\n{inner}",
                get.replace("Host: vendor\r\n", "")
            ),
        ),
        (
            "no Host",
            format!("{}\r\n{inner}", get.replace("Host: vendor\r\n", "")),
        ),
        ("two Hosts", format!("{get}Host: other\r\n\r\n{inner}")),
        (
            "a Host with a path",
            format!("{}\r\n{inner}", get.replace("vendor", "vendor/x")),
        ),
        (
            "chunks in HTTP/1.0",
            format!(
                "{}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
                get.replace("HTTP/1.1", "HTTP/1.0")
            ),
        ),
        (
            "HTTP/0.9",
            format!("GET /jira/rest/api/2/issue/OUTER-1\r\n\r\n{inner}"),
        ),
        (
            "HTTP/1.2",
            format!("{}\r\n{inner}", get.replace("HTTP/1.1", "HTTP/1.2")),
        ),
        (
            "a version with more",
            format!("{}\r\n{inner}", get.replace("HTTP/1.1", "HTTP/1.1x")),
        ),
        (
            "two spaces",
            format!("{}\r\n{inner}", get.replace("GET /", "GET  /")),
        ),
        (
            "a tab",
            format!("{}\r\n{inner}", get.replace("GET /", "GET\t/")),
        ),
        (
            "a space in the target",
            format!("{}\r\n{inner}", get.replace("OUTER-1", "OUTER-1 x")),
        ),
        ("a space before the method", format!(" {get}\r\n{inner}")),
        (
            "CONNECT",
            format!("CONNECT jira:443 HTTP/1.1\r\nHost: vendor\r\n\r\n{inner}"),
        ),
        (
            "TRACE",
            format!("{}Connection: close\r\n\r\n", get.replace("GET", "TRACE")),
        ),
        (
            "a whole URL",
            format!(
                "{}Connection: close\r\n\r\n",
                get.replace("GET /", "GET http://jira/")
            ),
        ),
        (
            "WebSocket",
            format!("{get}Connection: close, Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ),
        (
            "a chunk size with a space",
            format!(
                "{post}Transfer-Encoding: chunked\r\n\r\n{}",
                chunk.replacen("\r\n", " \r\n", 1)
            ),
        ),
        (
            "a chunk size with a sign",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n+{chunk}"),
        ),
        (
            "a chunk size with 0x",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n0x{chunk}"),
        ),
        (
            "a chunk size that overflows",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n10000000000000000{chunk}"),
        ),
        (
            "a chunk line that ends in LF",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n0\n\n{inner}"),
        ),
        (
            "LF in a chunk extension",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n0;a\n\r\n\r\n{inner}"),
        ),
        (
            "a chunk that is longer than it says",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n{inner}"),
        ),
        (
            "a bad trailer",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n{inner}"),
        ),
    ];
    cases
        .into_iter()
        .map(|(name, text)| (name, text.into_bytes()))
        .collect()
}
