# Varnish with its builtin VCL, which follows each of these subroutines where it does not return.
# What is written in capitals between @ is filled in for each run; the parameters are in `run`.
#
# Opened here is what the builtin VCL does not keep for caution's sake and RFC 9111 lets a shared
# cache keep; closed, what it keeps although `Vary` says otherwise. VCL is a language, and more could
# be written in it, such as bans after unsafe requests; that would be a cache of the author's.

vcl 4.1;

backend default {
    .host = "127.0.0.1";
    .port = "@ORIGIN_PORT@";
}

# Cookies are no reason not to keep an answer (RFC 9111 §7.3).
sub vcl_req_cookie {
    return;
}

sub vcl_beresp_cookie {
    return;
}

# Kept where RFC 9111 §3.5 lets a shared cache.
sub vcl_req_authorization {
    return;
}

sub vcl_backend_response {
    if (bereq.http.Authorization &&
        beresp.http.Cache-Control !~ "(?i)public|must-revalidate|s-maxage") {
        call vcl_beresp_hitmiss;
    }
}

# The builtin VCL knows `Vary: *` only where nothing else is in the list.
sub vcl_beresp_vary {
    if (beresp.http.Vary ~ "\*") {
        call vcl_beresp_hitmiss;
    }
}
