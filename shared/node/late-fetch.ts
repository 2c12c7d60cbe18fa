/**
 * The classes of Node's fetch, loaded when the first of them is made: that takes 20 ms and 4 MiB, and a function that only
 * answers needs none of them, because @hono/node-server has light ones, which turn into these when they have to. In a bundle
 * these names lead here and not to the global object (`shared/node/dev/bundles.ts`).
 */
type Classes = Pick<typeof globalThis, "Headers" | "Request" | "Response">;

/** Stands for a global class, and from its first `new` on inherits from it. */
function late<Name extends keyof Classes>(name: Name): Classes[Name] {
  let real: Classes[Name] | undefined;
  function load(): Classes[Name] {
    if (real !== undefined) return real;
    real = globalThis[name];
    Object.setPrototypeOf(StandIn, real);
    Object.setPrototypeOf(StandIn.prototype, real.prototype);
    return real;
  }
  function StandIn(...values: never[]): object {
    const own = load();
    return Reflect.construct(own, values, new.target === StandIn ? own : new.target);
  }
  const inherits = Function.prototype[Symbol.hasInstance];
  Object.defineProperty(StandIn, Symbol.hasInstance, {
    value: (one: object) => inherits.call(StandIn, one) || (real !== undefined && one instanceof real),
  });
  return StandIn as unknown as Classes[Name];
}

/** What @hono/node-server takes for the global object; it puts its own Request and Response in here. */
export const lateFetch: Classes & { readonly CloseEvent: undefined } = Object.assign(
  Object.create(globalThis),
  {
    Headers: late("Headers"),
    Request: late("Request"),
    Response: late("Response"),
    /** For WebSockets, which nothing here speaks. */
    CloseEvent: undefined,
  },
);
