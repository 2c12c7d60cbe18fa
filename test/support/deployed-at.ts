/** The variables that say where a deployment is, and who may use it: each user as `<username>:<password>`. */
export const DEPLOYED = {
  url: "CONTRACT_URL",
  tenants: [
    { admin: "CONTRACT_ADMIN_1", user: "CONTRACT_USER_1" },
    { admin: "CONTRACT_ADMIN_2", user: "CONTRACT_USER_2" },
  ],
} as const;
