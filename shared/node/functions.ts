/** Loading functions by their ids. */
import type { LatchkeyFunction, Servable } from "../function.ts";
import { type EventRouteId, eventRoutes, type RouteId, routes } from "../routes.ts";
import { type FunctionModule, servablesOf } from "./run.ts";

const load = (id: RouteId | EventRouteId): Promise<FunctionModule> => import(`../../functions/${id}.ts`);

export const functionIds = [...new Set([...routes, ...eventRoutes].map(({ id }) => id))];

/** Every function with a public route. */
export const loadPublicFunctions = (): Promise<LatchkeyFunction[]> =>
  Promise.all(routes.map(async ({ id }) => (await load(id)).default as LatchkeyFunction));

/** Every function that takes events. */
export const loadEventFunctions = (): Promise<Servable[]> =>
  Promise.all(
    eventRoutes.map(async ({ id }) => {
      const { default: only, events = only } = await load(id);
      return events;
    }),
  );

/**
 * What a process is to serve: a function by its id, with its public route and its events, or `all` public ones. Events
 * are no part of `all`: they are the cluster's own business and must be reached by nobody else.
 * @returns undefined for any other name
 */
export async function loadFunctions(name: string | undefined): Promise<Servable[] | undefined> {
  if (name === "all") return loadPublicFunctions();
  const id = functionIds.find((one) => one === name);
  if (id === undefined) return undefined;
  return servablesOf(await load(id));
}
