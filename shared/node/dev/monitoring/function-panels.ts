/** Panels about the functions: what they answered, and how they come and go. */
import type { Panel } from "./grafana.ts";
import { chosen, column, growth, line, perSecond, quantile } from "./service-queries.ts";

export const requests: Panel[] = [
  {
    ...line,
    title: "Requests per second by function",
    description: "Every request that a function has answered; `none` is a path that no function serves.",
    unit: "reqps",
    queries: [{ expr: perSecond("requests_total", "function", chosen), legend: "{{function}}" }],
  },
  {
    ...column,
    title: "Requests by function and status",
    description: "How many were answered with which HTTP status.",
    unit: "short",
    queries: [
      { expr: growth("requests_total", "function, status", chosen), legend: "{{function}} {{status}}" },
    ],
  },
  {
    ...line,
    title: "Slowest requests by function",
    description: "99 of 100 requests took at most this long, as the function sees it.",
    unit: "s",
    queries: [
      { expr: quantile(0.99, "request_duration_seconds", "function", chosen), legend: "{{function}}" },
    ],
  },
  {
    ...line,
    title: "Time of a request",
    description: "Half, 90 of 100 and 99 of 100 requests to the chosen functions took at most this long.",
    unit: "s",
    queries: [0.5, 0.9, 0.99].map((share) => ({
      expr: quantile(share, "request_duration_seconds", "", chosen),
      legend: `${share * 100} %`,
    })),
  },
  {
    ...column,
    title: "Problems by code",
    description: "Requests that were not served, by the code of the answer. The README lists the codes.",
    unit: "short",
    queries: [{ expr: growth("problems_total", "code", chosen), legend: "{{code}}" }],
  },
  {
    ...column,
    title: "Refused logins by reason",
    description: "too_many_attempts is the limit at work; user_unknown is somebody who tries names.",
    unit: "short",
    queries: [{ expr: growth("login_failures_total", "reason"), legend: "{{reason}}" }],
  },
];

export const pods: Panel[] = [
  {
    ...line,
    title: "Pods by function",
    description: "Pods that Prometheus reaches. A function without requests has none.",
    unit: "short",
    queries: [{ expr: `count by (function) (up{job="latchkey", ${chosen}} == 1)`, legend: "{{function}}" }],
  },
  {
    ...column,
    title: "Cold starts by function",
    description: "Processes that have started: pods for new load, and containers that were started again.",
    unit: "short",
    queries: [{ expr: growth("process_starts", "function", chosen), legend: "{{function}}" }],
  },
  {
    ...line,
    title: "Time until a process is ready",
    description:
      "From the start of the slowest process to its first answer from Redis: its part of a cold start.",
    unit: "s",
    queries: [{ expr: `max by (function) (latchkey_ready_seconds{${chosen}} > 0)`, legend: "{{function}}" }],
  },
  {
    ...line,
    title: "Memory of the largest process",
    description: "Resident memory, to be compared with the function's limit.",
    unit: "bytes",
    queries: [
      {
        expr: `max by (function) (process_resident_memory_bytes{job="latchkey", ${chosen}})`,
        legend: "{{function}}",
      },
    ],
  },
  {
    ...line,
    title: "Event loop lag",
    description:
      "How late the busiest process is with what it should do now. Above 0.1 s it wants more pods.",
    unit: "s",
    queries: [
      {
        expr: `max by (function) (nodejs_eventloop_lag_p99_seconds{job="latchkey", ${chosen}})`,
        legend: "{{function}}",
      },
    ],
  },
];
