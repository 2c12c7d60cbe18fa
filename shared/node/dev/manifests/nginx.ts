/** k8s/components/nginx-gateway/nginx.conf: what the HTTPRoutes do, for clusters without Gateway API. */
import { kindOf, type ProblemCode } from "../../../problems.ts";
import { allowedMethods, routes } from "../../../routes.ts";
import { expressionOf, hostOf, type PublicPath, publicPaths } from "./public-paths.ts";

/** What nginx answers by itself, by the statuses that it would answer otherwise. */
const ownAnswers: readonly { code: ProblemCode; statuses: readonly number[]; header?: string }[] = [
  // 494: headers that are too large; 501: a transfer encoding that it does not know; 505: HTTP/2 in plain text and later.
  { code: "malformed_request", statuses: [400, 414, 494, 501, 505] },
  { code: "not_found", statuses: [404] },
  // TRACE and CONNECT, which it never passes on.
  { code: "method_not_allowed", statuses: [405], header: "Allow $allow" },
  { code: "internal_error", statuses: [500] },
  { code: "function_unavailable", statuses: [502, 503, 504], header: "Retry-After 1" },
];

/** Seconds for an answer. */
const PATIENCE = Math.max(...routes.map(({ scaling }) => scaling.timeoutSeconds)) + 15;

/** A key of a map, tried in the order of the map. Plain texts would not do: they match in any case. */
function keyOf({ path }: PublicPath, methods: readonly string[] = []): string {
  const prefix = methods.length === 0 ? "" : `(?:${methods.join("|")}) `;
  return `"~^${prefix}${expressionOf(path)}$"`;
}

function map(
  source: string,
  target: string,
  byDefault: string,
  lines: readonly (readonly string[])[],
): string {
  const body = [["default", byDefault], ...lines].map((line) => `    ${line.join(" ")};\n`).join("");
  return `  map ${source} ${target} {\n${body}  }`;
}

function routeMaps(): string {
  // A path without a parameter before one that takes it in as well.
  const paths = publicPaths(routes).toSorted(
    (a, b) => Number(a.path.includes("{")) - Number(b.path.includes("{")),
  );
  const methods = paths.flatMap((one) => one.methods.map(({ id, names }) => [keyOf(one, names), id]));
  const fallbacks = paths.map((one) => [keyOf(one), one.fallback]);
  const allowed = paths.map((one) => [keyOf(one), `"${allowedMethods(one.path).join(", ")}"`]);
  return [
    "  # The function that answers a method of a path …",
    map('"$request_method $path"', "$function", "$fallback", methods),
    "  # … and every other method: OPTIONS with what web pages may do, 405 with Allow for the rest.",
    map("$path", "$fallback", '""', fallbacks),
    map("$path", "$allow", '""', allowed),
  ].join("\n");
}

/** In the form that `Problem` has. */
function problemLocation({ code, statuses, header }: (typeof ownAnswers)[number]): string {
  const kind = kindOf(code);
  const body = JSON.stringify({ ...kind, instance: "$instance", code, request_id: "$correlation" });
  // A named location would not do: nginx takes none for a request whose path it cannot read.
  return `    error_page ${statuses.join(" ")} = /.problem/${code};
    location = /.problem/${code} {
      internal;
      default_type application/problem+json;
      add_header Cache-Control no-store always;
      add_header X-Request-Id $correlation always;
${header === undefined ? "" : `      add_header ${header} always;\n`}      return ${kind.status} '${body}';
    }`;
}

/** All of nginx.conf. */
export const nginxConfiguration =
  (): string => `# Made by \`npm run generate\` from shared/routes.ts: do not edit.
# Files are relative to the prefix (nginx -p), which must be writable.
worker_processes 2;
pid nginx.pid;
error_log stderr warn;
events {
  worker_connections 4096;
}

http {
  server_tokens off;
  map_hash_bucket_size 128;
  client_body_temp_path client_body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;

  # The path as it was sent: $uri is decoded, and with %2F in an item's key names another path.
  map $request_uri $path {
    "~^(?<sent_path>[^?]*)" $sent_path;
  }
  # … in a problem's JSON, and the request's id if the caller's can be used, as the functions do it.
  map $path $instance {
    "~^[!#-[\\]-~]+$" $path;
    default /;
  }
  map $http_x_request_id $correlation {
    "~^[\\w-]{1,128}$" $http_x_request_id;
    default $request_id;
  }
${routeMaps()}

  # Neither paths nor queries: those may hold what is nobody's business. The function's log has the same request_id.
  log_format json escape=json '{"time":"$time_iso8601","request_id":"$answered_id","function":"$function",'
    '"method":"$request_method","status":$status,"bytes":$bytes_sent,"duration":$request_time,"upstream":"$upstream_response_time"}';
  map $sent_http_x_request_id $answered_id {
    "" $correlation;
    default $sent_http_x_request_id;
  }
  access_log /dev/stdout json;

  # Inside the cluster: wakes a function when it sleeps, and finds its pods by the host that is asked for.
  upstream functions {
    server kourier-internal.kourier-system.svc.cluster.local:80 max_fails=0;
    keepalive 64;
  }

  server {
    listen 8080 default_server;
    # Slow callers hold places here and not in functions, up to what the functions grant.
    client_header_timeout 10s;
    client_body_timeout 30s;
    send_timeout 30s;
    # Sizes are for the functions to judge, by the first bytes that are too many.
    client_max_body_size 0;
    proxy_request_buffering off;
    # Answers wait in memory for slow callers, and what does not fit makes the function wait; nothing is written to disk.
    proxy_max_temp_file_size 0;

    location / {
      if ($function = "") {
        return 404;
      }
      # Without a path here, so that the caller's arrives byte for byte.
      proxy_pass http://functions;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host ${hostOf("$function")};
      proxy_set_header X-Forwarded-Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
      # Not appended: what a caller says about itself ends here. Behind a load balancer that speaks HTTP: set_real_ip_from.
      proxy_set_header X-Forwarded-For $remote_addr;
      # More than a function may take, its start included: Knative has the first word.
      proxy_connect_timeout 5s;
      proxy_read_timeout ${PATIENCE}s;
      proxy_send_timeout ${PATIENCE}s;
      # A request may have been carried out: whether to repeat it is for the caller to say.
      proxy_next_upstream off;
    }

${ownAnswers.map(problemLocation).join("\n")}
  }
}
`;
