/** What is deployed: the overlays, and an overlay with a component that an operator adds. */
import { readdirSync, readFileSync } from "node:fs";
import { parse } from "yaml";
import { type Manifest, render, renderOnTop } from "./render.ts";

export const overlays = ["k8s/overlays/dev", "k8s/overlays/prod"] as const;
type Overlay = (typeof overlays)[number];

const root = new URL("../../", import.meta.url);
export const components = readdirSync(new URL("k8s/components", root));

/** An overlay with components, as an operator's own kustomization has it. */
export const renderWith = (overlay: Overlay, ...added: readonly string[]): readonly Manifest[] =>
  renderOnTop({ resources: [overlay], components: added.map((name) => `k8s/components/${name}`) });

const [small, large] = overlays;
interface Variant {
  /** The folders that name its images. */
  readonly folders: readonly string[];
  readonly render: () => readonly Manifest[];
}
/** The component that takes things out: what is left is looked at by itself. */
const CLUSTER = "redis-cluster";
const others = components.filter((name) => name !== CLUSTER);
/** Every overlay, the small one with every other component, and the large one with that one. */
export const variants: Readonly<Record<string, Variant>> = {
  [small]: { folders: [small], render: () => render(small) },
  [large]: { folders: [large], render: () => render(large) },
  [`${small} with every component but ${CLUSTER}`]: {
    folders: [small, ...others.map((name) => `k8s/components/${name}`)],
    render: () => renderWith(small, ...others),
  },
  [`${large} with ${CLUSTER}`]: { folders: [large], render: () => renderWith(large, CLUSTER) },
};

interface Image {
  readonly name: string;
  readonly newName: string;
  readonly newTag: string;
}
/** The one place in which an overlay, or a component that brings a pod, names its images. */
export const imagesOf = (folder: string): readonly Image[] =>
  parse(readFileSync(new URL(`${folder}/kustomization.yaml`, root), "utf8")).images ?? [];
