/** Loading functions by their ids. */
import type { LatchkeyFunction } from "../function.ts";
import { type RouteId, routes } from "../routes.ts";

const ids = routes.map((route) => route.id);

/** The functions that a process is to serve: one by its id, or `all`. Undefined for any other name. */
export async function loadFunctions(name: string | undefined): Promise<LatchkeyFunction[] | undefined> {
  const wanted = name === "all" ? ids : ids.filter((id) => id === name);
  return wanted.length === 0 ? undefined : Promise.all(wanted.map(loadFunction));
}

async function loadFunction(id: RouteId): Promise<LatchkeyFunction> {
  const module = (await import(`../../functions/${id}.ts`)) as { default: LatchkeyFunction };
  return module.default;
}
